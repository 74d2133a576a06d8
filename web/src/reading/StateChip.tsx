/** State of a study or a run as word, colour and progress. */
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import type { RunState, StudyState } from "../api/types";

const COLOUR: Record<StudyState | RunState, string> = {
  arriving: "var(--dim)",
  settling: "var(--dim)",
  queued: "var(--dim)",
  running: "var(--accent)",
  ready: "var(--proposed)",
  signed: "var(--accepted)",
  delivered: "var(--accepted)",
  done: "var(--accepted)",
  abstained: "var(--edited)",
  failed: "var(--danger)",
  prior: "var(--dim)",
};

const IN_PROGRESS = new Set(["arriving", "settling", "running", "queued"]);

export const isInProgress = (state: StudyState | RunState): boolean => IN_PROGRESS.has(state);

export function StudyStateChip({ state }: { state: StudyState }): ReactElement {
  const { t } = useTranslation();
  return <StateWord colour={COLOUR[state]} word={t(`state.${state}`)} state={state} />;
}

export function RunStateChip({ state }: { state: RunState }): ReactElement {
  const { t } = useTranslation();
  return <StateWord colour={COLOUR[state]} word={t(`runState.${state}`)} state={state} />;
}

function StateWord({ colour, word, state }: { colour: string; word: string; state: string }): ReactElement {
  return (
    <span style={{ display: "inline-flex", alignItems: "center", gap: 7, color: colour, whiteSpace: "nowrap" }} data-state={state}>
      <span className="dot" style={{ background: colour }} />
      {word}
    </span>
  );
}

export function Progress({ fraction, failed = false, label }: { fraction: number; failed?: boolean; label: string }): ReactElement {
  const bounded = Math.max(0, Math.min(1, fraction));
  return (
    <span className={failed ? "progress failed" : "progress"} role="progressbar" aria-label={label} aria-valuemin={0}
      aria-valuemax={100} aria-valuenow={Math.round(bounded * 100)}>
      <i style={{ transform: `scaleX(${bounded})` }} />
    </span>
  );
}

/** A step in the reader's words; what the dictionary does not know is shown as the agent wrote it. */
export function useStepName(): (step: string) => string {
  const { t } = useTranslation();
  return (step) => (step === "" ? "" : t(`steps.${step.replace(/[.:]/g, " ")}`, { defaultValue: step }));
}
