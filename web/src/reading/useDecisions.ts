/** Decide, sign, add and retry, with what the reader is told about it. */
import { useTranslation } from "react-i18next";
import { type DecideVariables, useAddFinding, useDecide, useRetryRun, useSign } from "../api/queries";
import type { FindingView, Language, NewFinding } from "../api/types";
import { useTelling } from "./useTelling";

export function useDecisions(uid: string, lang: Language, signed: boolean) {
  const { t } = useTranslation();
  const decide = useDecide(uid, lang);
  const add = useAddFinding(uid, lang);
  const sign = useSign(uid, lang);
  const retry = useRetryRun(uid);
  const { tell, explain } = useTelling(uid);

  return {
    tell,
    signing: sign.isPending,
    retrying: retry.isPending,
    decide: (variables: DecideVariables, after?: () => void): void => {
      if (signed) {
        tell(t("findings.locked"), "yellow");
        return;
      }
      decide.mutate(variables, { onError: (error) => explain(error, t("findings.conflict"), t("findings.failed")) });
      after?.();
    },
    add: (finding: NewFinding, after: (view: FindingView) => void): void =>
      add.mutate(finding, {
        onSuccess: (view) => {
          tell(t("viewer.made"), "green");
          after(view);
        },
        onError: (error) => explain(error, t("findings.locked"), t("findings.failed")),
      }),
    sign: (contentSha256: string, after: () => void): void =>
      sign.mutate(contentSha256, {
        onSuccess: () => {
          tell(t("sign.done"), "green");
          after();
        },
        onError: (error) => {
          explain(error, t("sign.conflict"), t("sign.failed"));
          after();
        },
      }),
    retry: (runId: string): void =>
      retry.mutate(runId, {
        onSuccess: () => tell(t("study.retried"), "green"),
        onError: (error) => explain(error, t("findings.conflict"), t("findings.failed")),
      }),
  };
}
