/** The findings of a study in the order of the report's numbers. */
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import type { FindingEdit, FindingView, Study } from "../api/types";
import { type CardMode, FindingCard } from "./FindingCard";
import { countByState } from "./findingText";
import { isInProgress } from "./StateChip";

export interface FindingListActions {
  select: (view: FindingView) => void;
  hover: (findingId: string | null) => void;
  mode: (mode: CardMode) => void;
  accept: (view: FindingView) => void;
  reject: (view: FindingView, reason: string) => void;
  edit: (view: FindingView, edit: FindingEdit) => void;
  reopen: (view: FindingView) => void;
}

export function FindingList({ study, selectedId, litId, locked, mode, advance, onAdvance, actions }: {
  study: Study;
  selectedId: string | null;
  litId: string | null;
  locked: boolean;
  mode: CardMode;
  advance: boolean;
  onAdvance: (on: boolean) => void;
  actions: FindingListActions;
}): ReactElement {
  const { t } = useTranslation();
  const { findings } = study;
  const open = countByState(findings).proposed;
  return (
    <section className="findings" aria-label={t("findings.title")}>
      <header className="panel-head">
        <h2>{t("findings.title")}</h2>
        {findings.length > 0 && (
          <span className={open > 0 ? "badge draft" : "badge final"} data-testid="open-count">
            {open > 0 ? t("findings.undecided", { count: open }) : t("findings.allDecided")}
          </span>
        )}
        <span className="spacer" />
        {findings.length > 1 && !locked && (
          <label className="advance">
            <input type="checkbox" checked={advance} onChange={(e) => onAdvance(e.currentTarget.checked)} />
            {t("findings.advance")}
          </label>
        )}
      </header>
      {findings.length === 0 && <Nothing study={study} />}
      <ol className="finding-list">
        {findings.map((view, i) => {
          const selected = view.finding.id === selectedId;
          return (
            <FindingCard key={view.finding.id} view={view} number={i + 1} selected={selected} locked={locked}
              lit={litId === view.finding.id} mode={selected ? mode : "view"}
              actions={{
                onSelect: () => actions.select(view),
                onHover: (on) => actions.hover(on ? view.finding.id : null),
                onMode: actions.mode,
                onAccept: () => actions.accept(view),
                onReject: (reason) => actions.reject(view, reason),
                onEdit: (edit) => actions.edit(view, edit),
                onReopen: () => actions.reopen(view),
              }} />
          );
        })}
      </ol>
    </section>
  );
}

function Nothing({ study }: { study: Study }): ReactElement {
  const { t } = useTranslation();
  if (study.runs.some((run) => isInProgress(run.state)) || isInProgress(study.row.state)) {
    return <p className="quiet pad">{t("findings.noneYet")}</p>;
  }
  const judged = study.runs.some((run) => run.state === "done");
  return (
    <div className="quiet pad">
      <b>{t("findings.none")}</b>
      <p>{judged ? t("findings.noneHint") : t("findings.noneJudged")}</p>
    </div>
  );
}
