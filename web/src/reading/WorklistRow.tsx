import { Tooltip } from "@mantine/core";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import type { WorklistRow } from "../api/types";
import { formatDate, formatReceived, formatTime, sexAndAge } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { parsePatientName } from "../ui/patientName";
import { imageModalities } from "./seriesChoice";
import { Progress, StudyStateChip, isInProgress, useStepName } from "./StateChip";

const COLUMNS = [
  "state", "urgency", "patient", "patientId", "sexAge", "studyDate", "modality", "description", "images", "findings", "received",
] as const;

export function WorklistHead(): ReactElement {
  const { t } = useTranslation();
  return (
    <div className="worklist-row worklist-head" role="row">
      {COLUMNS.map((column) => <span key={column} role="columnheader" className={`c-${column}`}>{t(`worklist.${column}`)}</span>)}
    </div>
  );
}

/** What else there is to know of the study, quietly: the state itself stays the loudest word. */
function Reason({ text }: { text: string }): ReactElement | null {
  if (text === "") return null;
  return (
    <Tooltip label={text} multiline maw={420}>
      <i className="row-reason" role="img" aria-label={text}><Icon name="warning" size={13} /></i>
    </Tooltip>
  );
}

function StateCell({ row }: { row: WorklistRow }): ReactElement {
  const { t } = useTranslation();
  const stepName = useStepName();
  if (isInProgress(row.state)) {
    return (
      <span className="c-state stacked">
        <span className="line">
          <StudyStateChip state={row.state} />
          <Reason text={row.reason} />
          <small title={stepName(row.step)}>{stepName(row.step)}</small>
        </span>
        <Progress fraction={row.fraction} label={t(`state.${row.state}`)} />
      </span>
    );
  }
  if (row.state === "failed") {
    return (
      <Tooltip label={<>{row.reason !== "" && <div>{row.reason}</div>}{t("worklist.retryRuns")}</>} multiline maw={420}>
        <span className="c-state stacked">
          <StudyStateChip state={row.state} />
          <small className="reason">{row.reason}</small>
        </span>
      </Tooltip>
    );
  }
  return <span className="c-state"><StudyStateChip state={row.state} /><Reason text={row.reason} /></span>;
}

function Urgency({ row }: { row: WorklistRow }): ReactElement {
  const { t } = useTranslation();
  const word = <span className={`urgency ${row.urgency}`}>{t(`urgency.${row.urgency}`)}</span>;
  return (
    <span className="c-urgency">
      {row.urgency_reason === "" ? word : <Tooltip label={row.urgency_reason} multiline maw={360}>{word}</Tooltip>}
    </span>
  );
}

export function WorklistRowView({ row, top, height, index, chosen, onChoose, onOpen }: {
  row: WorklistRow;
  top: number;
  height: number;
  index: number;
  chosen: boolean;
  onChoose: () => void;
  onOpen: () => void;
}): ReactElement {
  const { t } = useTranslation();
  const name = parsePatientName(row.patient_name);
  const decided = ["ready", "signed", "delivered"].includes(row.state);
  return (
    <div className="worklist-row" role="row" aria-rowindex={index + 1} aria-selected={chosen} data-uid={row.study_instance_uid}
      data-row-state={row.state} style={{ transform: `translateY(${top}px)`, height }} onMouseDown={onChoose} onClick={onOpen}>
      <StateCell row={row} />
      <Urgency row={row} />
      <span className="c-patient">
        {name.ideographic !== "" && <b lang="zh">{name.ideographic}</b>}
        <span className={name.ideographic === "" ? "main" : "second"}>{name.alphabetic || (name.ideographic === "" ? t("worklist.noName") : "")}</span>
      </span>
      <span className="c-patientId">{row.patient_id}</span>
      <span className="c-sexAge">{sexAndAge(row.sex, row.birth_date, row.study_date)}</span>
      <span className="c-studyDate">{formatDate(row.study_date)} <i>{formatTime(row.study_time)}</i></span>
      <span className="c-modality">{imageModalities(row.modalities).join(" ")}</span>
      <span className="c-description">
        {row.description}
        {row.priors > 0 && <Tooltip label={t("worklist.priors", { count: row.priors })}><i className="note"><Icon name="layers" size={13} />{row.priors}</i></Tooltip>}
        {row.kept_aside > 0 && <Tooltip label={t("worklist.keptAside", { count: row.kept_aside })}><i className="note warn"><Icon name="warning" size={13} />{row.kept_aside}</i></Tooltip>}
      </span>
      <span className="c-images">{row.instance_count}</span>
      <span className="c-findings">
        {decided && <>{row.finding_count}{row.undecided > 0 && <em>{t("worklist.undecided", { count: row.undecided })}</em>}</>}
      </span>
      <span className="c-received">{formatReceived(row.received_at, new Date())}</span>
    </div>
  );
}
