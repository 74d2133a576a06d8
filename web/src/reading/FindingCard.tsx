/** One finding in the list: what, where, how big, how sure, who says so, and what was decided. */
import { Tooltip } from "@mantine/core";
import { type ReactElement, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import type { FindingEdit, FindingView } from "../api/types";
import { formatMeasure, formatTimestamp } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { hint } from "../ui/keys";
import { EditForm } from "./EditForm";
import { attenuationOf, measureKey, otherMeasurements, sideOf, sizeOf, percentOf } from "./findingText";
import { REASONS, RejectPicker } from "./RejectPicker";

export type CardMode = "view" | "edit" | "reject";

export interface CardActions {
  onSelect: () => void;
  onHover: (on: boolean) => void;
  onMode: (mode: CardMode) => void;
  onAccept: () => void;
  onReject: (reason: string) => void;
  onEdit: (edit: FindingEdit) => void;
  onReopen: () => void;
}

export function FindingCard({ view, number, selected, lit, locked, mode, actions }: {
  view: FindingView;
  number: number;
  selected: boolean;
  lit: boolean;
  locked: boolean;
  mode: CardMode;
  actions: CardActions;
}): ReactElement {
  const { t } = useTranslation();
  const card = useRef<HTMLLIElement>(null);
  const { finding } = view;
  useEffect(() => {
    if (selected) card.current?.scrollIntoView({ block: "nearest" });
  }, [selected, mode]);
  const side = sideOf(finding);
  const type = attenuationOf(finding);
  const facts = [side === null ? "" : t(`findings.${side}`), sizeOf(finding), type === null ? "" : t(`attenuation.${type}`)];
  return (
    <li ref={card} className="finding" data-finding={finding.id} data-state={finding.state} aria-current={selected}
      data-lit={lit} onMouseEnter={() => actions.onHover(true)} onMouseLeave={() => actions.onHover(false)}>
      <button type="button" className="plain finding-head" onClick={actions.onSelect}>
        <span className="finding-number">{number}</span>
        <span className="finding-what">
          <span className="finding-title">{view.title}</span>
          <span className="finding-facts">{facts.filter(Boolean).join("  ·  ") || primaryMeasure()}</span>
        </span>
        <span className="finding-side">
          <span className="finding-state">{t(`findingState.${finding.state}`)}</span>
          {finding.confidence !== null && <Confidence value={finding.confidence} />}
        </span>
      </button>
      {selected && (
        <div className="finding-body">
          <Details view={view} />
          {mode === "edit" && !locked && <EditForm finding={finding} onSave={actions.onEdit} onCancel={() => actions.onMode("view")} />}
          {mode === "reject" && !locked && <RejectPicker onPick={actions.onReject} onCancel={() => actions.onMode("view")} />}
          {mode === "view" && !locked && <Actions view={view} actions={actions} />}
        </div>
      )}
    </li>
  );

  function primaryMeasure(): string {
    const first = finding.measurements[0];
    if (first === undefined) return finding.region === null ? t("findings.noRegion") : "";
    const key = measureKey(first);
    return `${key === null ? first.code.display : t(`measure.${key}`)} ${formatMeasure(first.value, first.unit)}`;
  }
}

function Confidence({ value }: { value: number }): ReactElement {
  const { t } = useTranslation();
  const percent = percentOf(value);
  return (
    <span className="confidence" title={t("findings.confidence")}>
      <span className="bar"><i style={{ width: `${percent}%` }} /></span>
      <span className="visually-hidden">{t("findings.confidence")}</span>
      {percent} %
    </span>
  );
}

function Details({ view }: { view: FindingView }): ReactElement {
  const { t } = useTranslation();
  const { finding } = view;
  const source = finding.source.kind === "person" ? t("findings.you") : [finding.source.id, finding.source.version].filter(Boolean).join(" ");
  return (
    <>
      <dl className="finding-measures">
        {otherMeasurements(finding).map((m) => {
          const key = measureKey(m);
          return (
            <div key={m.code.code} title={m.method}>
              <dt>{key === null ? m.code.display : t(`measure.${key}`)}</dt>
              <dd>{formatMeasure(m.value, m.unit)}</dd>
            </div>
          );
        })}
        <div><dt>{t("findings.source")}</dt><dd>{source}</dd></div>
      </dl>
      {view.limits.map((limit) => <p key={limit} className="limit"><Icon name="warning" size={13} />{limit}</p>)}
      {finding.evidence.rules.map((rule) => (
        <p key={rule.id} className="rule" title={rule.citation}>{t("findings.rule")}: {rule.result} <small>{rule.citation}</small></p>
      ))}
      {finding.note !== "" && <p className="note">{t("findings.note")}: {finding.note}</p>}
      {view.reason !== "" && <p className="note">{t("findings.whyReject")} {REASONS.some((r) => r === view.reason) ? t(`findings.reasons.${view.reason}`) : view.reason}</p>}
      {view.decided_by !== null && (
        <p className="decided">{t("findings.decidedBy", { name: view.decided_by, at: formatTimestamp(view.decided_at) })}</p>
      )}
    </>
  );
}

function Actions({ view, actions }: { view: FindingView; actions: CardActions }): ReactElement {
  const { t } = useTranslation();
  const { state } = view.finding;
  const button = (key: "accept" | "reject" | "edit" | "reopen", icon: "check" | "cross" | "pencil" | "undo", onClick: () => void): ReactElement => (
    <button type="button" className={`plain act ${key}`} onClick={onClick} data-act={key}>
      <Icon name={icon} size={14} />
      {t(`findings.${key}`)}
      <kbd>{hint(key)}</kbd>
    </button>
  );
  return (
    <div className="acts">
      {state !== "accepted" && button("accept", "check", actions.onAccept)}
      {button("edit", "pencil", () => actions.onMode("edit"))}
      {state !== "rejected" && button("reject", "cross", () => actions.onMode("reject"))}
      {state !== "proposed" && <Tooltip label={t("findings.reopen")}>{button("reopen", "undo", actions.onReopen)}</Tooltip>}
    </div>
  );
}
