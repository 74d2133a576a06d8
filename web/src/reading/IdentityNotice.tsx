/** A quiet line: whose the images are was corrected since they came, and what they said before. */
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import type { IdentityStep } from "../api/types";
import { formatTimestamp } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { whatItWas } from "./identity";

export function IdentityNotice({ history }: { history: readonly IdentityStep[] }): ReactElement | null {
  const { t } = useTranslation();
  if (history.length === 0) return null;
  return (
    <div className="study-notice" role="status" data-testid="identity-notice">
      <Icon name="warning" size={15} />
      <span>
        {history.map((step) => (
          <span key={step.at + step.before.patient_id + step.before.name} title={step.source} className="identity-step">
            {t("study.corrected", { at: formatTimestamp(step.at), was: whatItWas(step) })}
          </span>
        ))}
      </span>
    </div>
  );
}
