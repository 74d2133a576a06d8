/** What the reader should know of the study as a whole: what failed, what came late, what was signed before. */
import { Button } from "@mantine/core";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { reportPdfAddress } from "../api/client";
import { useDeliveries, useRetryStudy } from "../api/queries";
import type { Language, SignedRevision, StudyState } from "../api/types";
import { formatTimestamp } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { canTakeUp } from "./takeUp";
import { useTelling } from "./useTelling";

export function StudyNotice({ uid, state, reason }: { uid: string; state: StudyState; reason: string }): ReactElement | null {
  const { t } = useTranslation();
  const deliveries = useDeliveries(uid, state === "signed");
  const retry = useRetryStudy(uid);
  const { tell, explain } = useTelling(uid);
  const offered = canTakeUp(state, reason, deliveries.data);
  if (reason === "" && !offered) return null;
  const takeUp = (): void =>
    retry.mutate(undefined, {
      onSuccess: () => tell(t("study.takenUp"), "green"),
      onError: (error) => explain(error, t("study.changedMeanwhile"), t("study.notTakenUp")),
    });
  return (
    <div className={state === "failed" ? "study-notice failed" : "study-notice"} role="status" data-testid="study-notice">
      <Icon name="warning" size={15} />
      <span>{state === "prior" ? t("study.onlyPrior") : reason}</span>
      {offered && <Button size="compact-xs" variant="default" loading={retry.isPending} onClick={takeUp}>{t("study.takeUp")}</Button>}
    </div>
  );
}

/** Signed revisions before this one, each as the PDF that was signed. */
export function EarlierReports({ uid, lang, revision, signed }: {
  uid: string;
  lang: Language;
  revision: number;
  signed: readonly SignedRevision[];
}): ReactElement | null {
  const { t } = useTranslation();
  const earlier = signed.filter((one) => one.revision < revision);
  if (earlier.length === 0) return null;
  return (
    <p className="quiet earlier" data-testid="earlier-reports">
      {t("report.signedBefore")}
      {earlier.map((one) => (
        <a key={one.revision} href={reportPdfAddress(uid, lang, one.revision)} target="_blank" rel="noreferrer"
          title={`${one.person_name}, ${formatTimestamp(one.at)}`}>
          {t("study.revision", { count: one.revision })}
        </a>
      ))}
    </p>
  );
}
