/** The report that writes itself: sections, sentences, and for each sentence what it stands on. */
import { Button, Loader, Tooltip } from "@mantine/core";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { reportPdfAddress } from "../api/client";
import type { FindingView, Language, Report, ReportSentence, Study } from "../api/types";
import { formatTimestamp } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { hint } from "../ui/keys";
import { Delivered } from "./Delivered";
import { chipsOf, obstacle } from "./findingText";
import { IdentityNotice } from "./IdentityNotice";
import { EarlierReports, StudyNotice } from "./StudyNotice";

const BASES = new Set(["acquisition", "undecided", "normal", "not-assessed", "abstained", "comparison"]);

export function ReportPanel({ uid, lang, report, failed, study, findings, litId, onHover, onJump, onSign, onRetry }: {
  uid: string;
  lang: Language;
  report: Report | undefined;
  failed: boolean;
  study: Study;
  findings: readonly FindingView[];
  litId: string | null;
  onHover: (findingId: string | null) => void;
  onJump: (findingId: string) => void;
  onSign: () => void;
  onRetry: () => void;
}): ReactElement {
  const { t } = useTranslation();
  const { state, reason } = study.row;
  const why = obstacle(report, findings, state);
  return (
    <section className="report" aria-label={t("report.title")} data-report-state={report?.state} lang={report?.language}>
      <header className="panel-head">
        <h2>{t("report.title")}</h2>
        {report !== undefined && <span className={`badge ${report.state}`}>{t(`report.${report.state}`)}</span>}
        <span className="spacer" />
        {report !== undefined && (
          <a className="plain topbutton" href={reportPdfAddress(uid, lang)} target="_blank" rel="noreferrer">
            <Icon name="document" size={14} />&nbsp;{t("report.pdf")}
          </a>
        )}
        {report?.state === "draft" && (
          <Tooltip label={why === "not-ready" ? t("report.notReady") : hint("sign")}>
            <Button size="compact-xs" onClick={onSign} disabled={why === "not-ready"} leftSection={<Icon name="pen" size={13} />} data-testid="sign">
              {t("report.signButton")}
            </Button>
          </Tooltip>
        )}
      </header>
      <div className="report-body">
        <StudyNotice uid={uid} state={state} reason={reason} />
        <IdentityNotice history={study.identity_history} />
        <EarlierReports uid={uid} lang={lang} revision={study.revision} signed={study.signed_revisions} />
        {report === undefined && !failed && <p className="quiet"><Loader size={12} color="gray" /> {t("report.loading")}</p>}
        {failed && report === undefined && (
          <p className="quiet" role="alert">{t("report.failed")} <button type="button" className="plain link" onClick={onRetry}>{t("app.retry")}</button></p>
        )}
        {report?.translation_of != null && <p className="quiet translation">{t(`report.translation.${report.translation_of}`)}</p>}
        {report?.sections.map((section) => (
          <section key={section.id} data-section={section.id}>
            <h3>{section.title}</h3>
            <p>
              {section.sentences.map((sentence, i) => (
                <Sentence key={i} sentence={sentence} findings={findings} litId={litId} onHover={onHover} onJump={onJump} />
              ))}
            </p>
          </section>
        ))}
        {report?.signature && (
          <div className="signature">
            <Icon name="pen" size={18} />
            <div>
              <b>{t("report.signedBy", { name: report.signature.person_name })}</b>
              <span>{formatTimestamp(report.signature.at)}</span>
              <code title={report.signature.sha256}>{t("report.fingerprint")} {report.signature.sha256.slice(0, 16)}…</code>
            </div>
          </div>
        )}
        {report?.state === "final" && <Delivered uid={uid} underWay={state === "signed"} stuck={reason !== ""} />}
      </div>
    </section>
  );
}

function Sentence({ sentence, findings, litId, onHover, onJump }: {
  sentence: ReportSentence;
  findings: readonly FindingView[];
  litId: string | null;
  onHover: (findingId: string | null) => void;
  onJump: (findingId: string) => void;
}): ReactElement {
  const { t } = useTranslation();
  const chips = chipsOf(sentence.finding_ids, findings);
  const lit = litId !== null && sentence.finding_ids.includes(litId);
  const basis = BASES.has(sentence.basis) && chips.length === 0 ? t(`report.basis.${sentence.basis}`) : undefined;
  return (
    <span className="sentence" data-lit={lit} title={basis} onMouseEnter={() => onHover(sentence.finding_ids[0] ?? null)} onMouseLeave={() => onHover(null)}>
      {sentence.text}
      {chips.length > 0 && "\u2060"}
      {chips.map((chip) => {
        const view = findings[chip.number - 1]!;
        const label = t("report.standsOn", { number: chip.number, title: view.title });
        return (
          <button key={chip.findingId} type="button" className="plain chip" data-chip={chip.findingId} data-state={view.finding.state}
            title={label} aria-label={label} onClick={() => onJump(chip.findingId)}>{chip.number}</button>
        );
      })}
      {sentence.rules.map((rule) => <small key={rule.id} className="cite" title={rule.result}>{rule.citation}</small>)}{" "}
    </span>
  );
}
