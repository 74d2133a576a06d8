/** Left of the images: series, what the agents did, priors. */
import { Tooltip } from "@mantine/core";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { Run, Series, Study } from "../api/types";
import { formatDate } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { Thumbnail } from "../viewer/Thumbnail";
import { Progress, RunStateChip, isInProgress, useStepName } from "./StateChip";
import { hasPixels } from "./seriesChoice";

export function SidePanel({ study, seriesUid, onSeries, onRetry, retrying }: {
  study: Study;
  seriesUid: string | null;
  onSeries: (uid: string) => void;
  onRetry: (runId: string) => void;
  retrying: boolean;
}): ReactElement {
  const { t } = useTranslation();
  const pictures = study.series.filter(hasPixels);
  const others = study.series.filter((s) => !hasPixels(s));
  return (
    <aside className="side">
      <section>
        <h2>{t("study.series")}</h2>
        <ul className="series">
          {pictures.map((series) => (
            <li key={series.series_instance_uid}>
              <button type="button" className="plain" aria-current={series.series_instance_uid === seriesUid}
                onClick={() => onSeries(series.series_instance_uid)} data-series={series.series_instance_uid}>
                <Thumbnail studyUid={study.row.study_instance_uid} seriesUid={series.series_instance_uid} count={series.instance_count} />
                <SeriesWords series={series} />
              </button>
            </li>
          ))}
        </ul>
        {others.length > 0 && (
          <ul className="objects">
            {others.map((series) => (
              <li key={series.series_instance_uid}><Icon name="document" size={13} /><b>{series.modality}</b><span>{series.description}</span></li>
            ))}
          </ul>
        )}
      </section>
      <section>
        <h2>{t("study.agents")}</h2>
        {study.runs.length === 0 && <p className="quiet">{t("study.noAgents")}</p>}
        {study.runs.map((run) => <RunView key={run.id} run={run} onRetry={onRetry} retrying={retrying} />)}
      </section>
      <section>
        <h2>{t("study.priors")}</h2>
        {study.priors.length === 0 && <p className="quiet">{t("study.noPriors")}</p>}
        <ul className="objects">
          {study.priors.map((prior) => (
            <li key={prior.study_instance_uid}>
              <Link to={`/study/${prior.study_instance_uid}`}>{formatDate(prior.study_date)} {prior.modalities.join(" ")} {prior.description}</Link>
            </li>
          ))}
        </ul>
      </section>
    </aside>
  );
}

function SeriesWords({ series }: { series: Series }): ReactElement {
  const { t } = useTranslation();
  return (
    <span className="series-words">
      <span>{series.series_number === null ? "" : `${series.series_number}  `}{series.modality}{series.derived ? `  ${t("study.derived")}` : ""}</span>
      <b title={series.description}>{series.description || series.body_part || series.modality}</b>
      <small>{t("study.images", { count: series.instance_count })}</small>
    </span>
  );
}

function RunView({ run, onRetry, retrying }: { run: Run; onRetry: (runId: string) => void; retrying: boolean }): ReactElement {
  const { t } = useTranslation();
  const stepName = useStepName();
  const seconds = run.seconds.reduce((sum, [, s]) => sum + s, 0);
  return (
    <div className="run" data-run={run.id} data-run-state={run.state}>
      <div className="run-head">
        <b title={run.agent_id}>{run.agent_title}</b>
        <RunStateChip state={run.state} />
      </div>
      {isInProgress(run.state) && (
        <>
          <div className="run-step"><span>{stepName(run.step)}</span><small>{Math.round(run.fraction * 100)} %</small></div>
          <Progress fraction={run.fraction} label={run.agent_title} />
        </>
      )}
      {(run.state === "failed" || run.state === "abstained") && (
        <p className={run.state === "failed" ? "run-reason failed" : "run-reason"}>{run.reason}</p>
      )}
      {run.withheld.length > 0 && (
        <details open>
          <summary>{t("study.withheld")}<small>{run.withheld.length}</small></summary>
          {run.withheld.map((w) => <p key={w.finding_id} className="run-missing"><span>{w.title}</span> {w.reason}</p>)}
        </details>
      )}
      {run.facts.length > 0 && (
        <details>
          <summary>{t("study.facts")}<small>{run.facts.length}</small></summary>
          <dl>
            {run.facts.map((fact) => <div key={fact.name}><dt>{fact.name}</dt><dd>{String(fact.value)}</dd></div>)}
          </dl>
        </details>
      )}
      {run.not_assessed.length > 0 && (
        <details>
          <summary>{t("study.notAssessed")}<small>{run.not_assessed.length}</small></summary>
          <p className="run-missing">{run.not_assessed.join(", ")}</p>
        </details>
      )}
      <div className="run-foot">
        <small>
          v{run.agent_version}
          {run.attempt > 1 && `, ${t("study.attempt", { count: run.attempt })}`}
        </small>
        {seconds > 0 && (
          <Tooltip multiline label={run.seconds.map(([name, s]) => <div key={name}>{stepName(name)} {s.toFixed(1)} s</div>)}>
            <small>{t("study.seconds")} {seconds.toFixed(1)} s</small>
          </Tooltip>
        )}
        {run.state === "failed" && (
          <button type="button" className="plain link" disabled={retrying} onClick={() => onRetry(run.id)}>{t("study.retryRun")}</button>
        )}
      </div>
    </div>
  );
}
