/** Where one study is read, decided and signed. */
import { Button, Loader } from "@mantine/core";
import { type ReactElement, Suspense, lazy, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate, useParams, useSearchParams } from "react-router";
import { ApiError } from "../api/client";
import { usePendingDecisions, useReport, useStudy, withPending } from "../api/queries";
import type { FindingView, Person, Study } from "../api/types";
import { useLanguage } from "../i18n";
import { formatDate, formatTime, sexAndAge } from "../ui/dicomFormat";
import { useKeys } from "../ui/keys";
import { Middle } from "../ui/Middle";
import { parsePatientName } from "../ui/patientName";
import { TopbarSlot } from "../ui/Shell";
import { PRESETS } from "../viewer/presets";
import { useImageSeries } from "../viewer/useImageSeries";
import type { ViewerHandle } from "../viewer/Viewer";
import type { CardMode } from "./FindingCard";
import { FindingList } from "./FindingList";
import { attenuationOf, neighbour, nextUndecided } from "./findingText";
import { ReportPanel } from "./ReportPanel";
import { firstSeries } from "./seriesChoice";
import { SidePanel } from "./SidePanel";
import { SignDialog } from "./SignDialog";
import { StudyStateChip } from "./StateChip";
import { useDecisions } from "./useDecisions";
import "./study.css";

const Viewer = lazy(() => import("../viewer/Viewer"));
const ADVANCE = "polyclinic.advance";

export default function StudyPage({ person }: { person: Person }): ReactElement {
  const { t } = useTranslation();
  const { uid = "" } = useParams();
  const { lang } = useLanguage();
  const study = useStudy(uid, lang);
  if (study.isPending) return <Middle title={t("study.loading")}><Loader size="sm" /></Middle>;
  if (study.data === undefined) {
    const missing = study.error instanceof ApiError && study.error.status === 404;
    return (
      <Middle title={missing ? t("study.missing") : t("study.failed")} hint={missing ? undefined : study.error?.message}>
        {!missing && <Button size="xs" variant="default" onClick={() => void study.refetch()}>{t("app.retry")}</Button>}
      </Middle>
    );
  }
  return <Reading key={uid} uid={uid} read={study.data} person={person} />;
}

function Reading({ uid, read, person }: { uid: string; read: Study; person: Person }): ReactElement {
  const { t } = useTranslation();
  const { lang } = useLanguage();
  const navigate = useNavigate();
  const [address, setAddress] = useSearchParams();
  const report = useReport(uid, lang);
  const pending = usePendingDecisions(uid);
  const study = useMemo(() => ({ ...read, findings: withPending(read.findings, pending) }), [read, pending]);
  const signed = study.signature !== null || report.data?.state === "final";
  const decisions = useDecisions(uid, lang, signed);
  const { findings } = study;

  const [chosenSeries, setChosenSeries] = useState<string | null>(null);
  const seriesUid = chosenSeries ?? firstSeries(study);
  const imageCount = study.series.find((s) => s.series_instance_uid === seriesUid)?.instance_count ?? 0;
  const images = useImageSeries(uid, seriesUid, imageCount);
  const [litId, setLitId] = useState<string | null>(null);
  const [mode, setMode] = useState<CardMode>("view");
  const [signing, setSigning] = useState(false);
  const reportIsFresh = useFreshReport(signing, pending.length, report.refetch);
  const [advance, setAdvance] = useState(() => localStorage.getItem(ADVANCE) !== "no");
  const viewer = useRef<ViewerHandle>(null);

  // Kept here and only mirrored in the address: keys that follow each other must not wait for the router.
  const [wanted, setWanted] = useState(address.get("finding"));
  const selected = findings.find((f) => f.finding.id === wanted) ?? null;
  const numbered = useMemo(() => findings.map((view, i) => ({ number: i + 1, finding: view.finding })), [findings]);

  const select = (findingId: string | null): void => {
    setMode("view");
    setWanted(findingId);
    setAddress(findingId === null ? {} : { finding: findingId }, { replace: true });
  };
  const jump = (findingId: string): void => {
    const view = findings.find((f) => f.finding.id === findingId);
    if (view === undefined) return;
    if (findingId === wanted) viewer.current?.show(view.finding);
    else select(findingId);
  };
  useEffect(() => {
    // Open at the first thing to decide, unless the address names a finding.
    if (selected === null && findings.length > 0) select(nextUndecided(findings, null) ?? findings[0]!.finding.id);
  }, [selected === null, findings.length]);

  const after = (view: FindingView): (() => void) => () => {
    setMode("view");
    const next = advance ? nextUndecided(findings, view.finding.id) : null;
    if (next !== null) select(next);
  };
  const accept = (view: FindingView): void => decisions.decide({ view, decision: "accept" }, after(view));
  const reject = (view: FindingView, reason: string): void => decisions.decide({ view, decision: "reject", reason }, after(view));
  const reopen = (view: FindingView): void => decisions.decide({ view, decision: "reopen" }, () => setMode("view"));
  const openMode = (next: CardMode): void => (signed ? decisions.tell(t("findings.locked"), "yellow") : setMode(next));
  const openSigning = (): void => {
    if (report.data?.state === "draft" && ["ready", "failed"].includes(study.row.state)) setSigning(true);
    else if (!signed) decisions.tell(t("report.notReady"));
  };

  useKeys("study", {
    nextFinding: () => select(neighbour(findings, wanted, 1)),
    previousFinding: () => select(neighbour(findings, wanted, -1)),
    accept: () => selected && accept(selected),
    reject: () => selected && openMode("reject"),
    edit: () => selected && openMode("edit"),
    reopen: () => selected && selected.finding.state !== "proposed" && reopen(selected),
    sign: openSigning,
    worklist: () => void navigate("/"),
  });

  const corner = useMemo(() => cornerText(study, seriesUid), [study, seriesUid]);
  const startWindow = useMemo(
    () => (findings.some((f) => attenuationOf(f.finding) !== null || f.finding.body_site?.code === "39607008") ? PRESETS[0]!.range : null),
    [findings],
  );

  return (
    <div className="study" data-revision={study.revision}>
      <TopbarSlot><PatientBar study={study} /></TopbarSlot>
      <SidePanel study={study} seriesUid={seriesUid} onSeries={setChosenSeries} onRetry={decisions.retry} retrying={decisions.retrying} />
      <div className="centre">
        {seriesUid === null && <Middle title={t("viewer.noImages")} />}
        {seriesUid !== null && images.isPending && <Middle title={t("viewer.loading")}><Loader size="sm" /></Middle>}
        {images.isError && (
          <Middle title={t("viewer.failed")}>
            <Button size="xs" variant="default" onClick={() => void images.refetch()}>{t("app.retry")}</Button>
          </Middle>
        )}
        {images.data?.images.length === 0 && <Middle title={t("viewer.noImages")} />}
        {images.data !== undefined && images.data.images.length > 0 && (
          <Suspense fallback={<Middle title={t("viewer.loading")}><Loader size="sm" /></Middle>}>
            <Viewer key={images.data.seriesUid} ref={viewer} series={images.data} findings={numbered} selected={selected?.finding ?? null}
              corner={corner} startWindow={images.data.modality === "CT" ? startWindow : null} onSelect={jump}
              onMeasured={(finding) => (signed ? decisions.tell(t("findings.locked"), "yellow") : decisions.add(finding, (view) => select(view.finding.id)))}
              onNotice={decisions.tell} />
          </Suspense>
        )}
      </div>
      <aside className="decide">
        <FindingList study={study} selectedId={wanted} litId={litId} locked={signed} mode={mode} advance={advance}
          onAdvance={(on) => { setAdvance(on); localStorage.setItem(ADVANCE, on ? "yes" : "no"); }}
          actions={{
            select: (view) => jump(view.finding.id),
            hover: setLitId,
            mode: openMode,
            accept,
            reject,
            edit: (view, edit) => decisions.decide({ view, decision: "edit", edit }, after(view)),
            reopen,
          }} />
        <ReportPanel uid={uid} lang={lang} report={report.data} failed={report.isError} study={study} findings={findings}
          litId={litId} onHover={setLitId} onJump={jump} onSign={openSigning} onRetry={() => void report.refetch()} />
      </aside>
      <SignDialog opened={signing} report={report.data} findings={findings} person={person} busy={decisions.signing || !reportIsFresh}
        onClose={() => setSigning(false)}
        onGoToUndecided={() => { setSigning(false); select(nextUndecided(findings, null)); }}
        onConfirm={() => report.data && decisions.sign(report.data.content_sha256, () => setSigning(false))} />
    </div>
  );
}

/** While the dialog is open: whether the report was read after the last decision went through. */
function useFreshReport(wanted: boolean, pending: number, refetch: () => Promise<unknown>): boolean {
  const [fresh, setFresh] = useState(false);
  useEffect(() => {
    setFresh(false);
    if (!wanted || pending > 0) return undefined;
    let alive = true;
    void refetch().then(() => alive && setFresh(true));
    return () => {
      alive = false;
    };
  }, [wanted, pending, refetch]);
  return fresh;
}

function PatientBar({ study }: { study: Study }): ReactElement {
  const { t } = useTranslation();
  const { row } = study;
  const name = parsePatientName(row.patient_name);
  return (
    <div className="patientbar">
      <span className="divider" />
      <b>{name.ideographic}{name.ideographic !== "" && name.alphabetic !== "" && " "}{name.alphabetic}</b>
      <span>{row.patient_id}</span>
      <span>{sexAndAge(row.sex, row.birth_date, row.study_date)}</span>
      <span className="what">{formatDate(row.study_date)} {row.description}</span>
      <StudyStateChip state={row.state} />
      {row.urgency !== "routine" && <span className={`urgency ${row.urgency}`} title={row.urgency_reason}>{t(`urgency.${row.urgency}`)}</span>}
    </div>
  );
}

function cornerText(study: Study, seriesUid: string | null): { left: string[]; right: string[] } {
  const { row } = study;
  const name = parsePatientName(row.patient_name);
  const series = study.series.find((s) => s.series_instance_uid === seriesUid);
  return {
    left: [
      [name.ideographic, name.alphabetic].filter(Boolean).join("  "),
      row.patient_id,
      sexAndAge(row.sex, row.birth_date, row.study_date),
    ],
    right: [
      `${formatDate(row.study_date)} ${formatTime(row.study_time)}`,
      row.description,
      series === undefined ? "" : `${series.series_number ?? ""} ${series.description}`.trim(),
    ],
  };
}
