/** The last look before the name goes under it. */
import { Button, Modal } from "@mantine/core";
import { type ReactElement, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import type { FindingView, Person, Report } from "../api/types";
import { countByState } from "./findingText";

export function SignDialog({ opened, report, findings, person, busy, onConfirm, onGoToUndecided, onClose }: {
  opened: boolean;
  report: Report | undefined;
  findings: readonly FindingView[];
  person: Person;
  busy: boolean;
  onConfirm: () => void;
  onGoToUndecided: () => void;
  onClose: () => void;
}): ReactElement {
  const { t } = useTranslation();
  const counts = countByState(findings);
  const undecided = Math.max(counts.proposed, report?.undecided ?? 0);
  const primary = useRef<() => void>(() => undefined);
  primary.current = undecided > 0 ? onGoToUndecided : () => report !== undefined && !busy && onConfirm();
  useEffect(() => {
    if (!opened) return undefined;
    // Enter means the main button also in the moment before the focus has moved to it.
    const listen = (event: KeyboardEvent): void => {
      const onControl = event.target instanceof Element && event.target.closest("[role=dialog] button") !== null;
      if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.repeat || onControl) return;
      event.preventDefault();
      primary.current();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [opened]);
  return (
    <Modal opened={opened} onClose={onClose} title={t("sign.title")} size={640} closeButtonProps={{ "aria-label": t("app.close") }}>
      <div className="sign-counts">
        <span data-state="accepted"><b>{counts.accepted}</b>{t("sign.accepted")}</span>
        <span data-state="edited"><b>{counts.edited}</b>{t("sign.edited")}</span>
        <span data-state="rejected"><b>{counts.rejected}</b>{t("sign.rejected")}</span>
        <span data-state="proposed"><b>{undecided}</b>{t("sign.undecided")}</span>
      </div>
      {undecided > 0 ? (
        <p role="alert" className="sign-blocked">{t("sign.blocked", { count: undecided })}</p>
      ) : (
        <>
          <p className="quiet">{t("sign.what")}</p>
          <div className="sign-text">
            {report?.sections.map((section) => (
              <section key={section.id}>
                <h3>{section.title}</h3>
                <p>{section.sentences.map((s) => s.text).join(" ")}</p>
              </section>
            ))}
          </div>
          <p className="quiet">{t("sign.after")}</p>
        </>
      )}
      <div className="sign-buttons">
        <Button size="xs" variant="default" onClick={onClose}>{t("app.cancel")}</Button>
        {undecided > 0 ? (
          <Button size="xs" onClick={onGoToUndecided} data-autofocus>{t("sign.goTo")}</Button>
        ) : (
          <Button size="xs" onClick={onConfirm} loading={busy} disabled={report === undefined} data-autofocus data-testid="sign-confirm">
            {t("sign.confirm", { name: person.name })}
          </Button>
        )}
      </div>
    </Modal>
  );
}
