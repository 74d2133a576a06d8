/** Why a finding is rejected: one key, so that the reason is kept without extra work. */
import { type ReactElement, useEffect } from "react";
import { useTranslation } from "react-i18next";

/** Stored as they are, so that governance can count them in any language. */
export const REASONS = ["vessel", "scar", "artefact", "lymph-node", "known", "other"] as const;

export function RejectPicker({ onPick, onCancel }: { onPick: (reason: string) => void; onCancel: () => void }): ReactElement {
  const { t } = useTranslation();
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const reason = REASONS[Number(event.key) - 1];
      if (event.key !== "Escape" && reason === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (reason === undefined) onCancel();
      else onPick(reason);
    };
    window.addEventListener("keydown", listen, { capture: true });
    return () => window.removeEventListener("keydown", listen, { capture: true });
  }, [onPick, onCancel]);
  return (
    <div className="reasons" role="group" data-owns-keys="1 2 3 4 5 6 Escape" aria-label={t("findings.whyReject")}>
      <span>{t("findings.whyReject")}</span>
      {REASONS.map((reason, i) => (
        <button key={reason} type="button" className="plain act" data-reason={reason} onClick={() => onPick(reason)}>
          <kbd>{i + 1}</kbd>{t(`findings.reasons.${reason}`)}
        </button>
      ))}
    </div>
  );
}
