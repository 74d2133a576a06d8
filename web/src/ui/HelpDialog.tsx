/** Every key, printed from the table that the pages obey. */
import { Kbd, Modal } from "@mantine/core";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { BINDINGS, type KeyGroup, type Scope, printedStroke } from "./keys";

const GROUPS: Record<Scope, KeyGroup[]> = { worklist: ["worklist", "page"], study: ["findings", "viewer", "report", "page"] };

export function HelpDialog({ opened, onClose, scope }: { opened: boolean; onClose: () => void; scope: Scope }): ReactElement {
  const { t } = useTranslation();
  return (
    <Modal opened={opened} onClose={onClose} title={t("keys.title")} size={scope === "study" ? 860 : 440}
      closeButtonProps={{ "aria-label": t("app.close") }}>
      <div style={{ columns: scope === "study" ? 2 : 1, columnGap: 36 }}>
        {GROUPS[scope].map((group) => (
          <section key={group} style={{ marginBottom: 16, breakInside: group === "viewer" ? "auto" : "avoid" }}>
            <h3 style={{ margin: "0 0 6px", fontSize: 12, color: "var(--accent)" }}>{t(`keys.groups.${group}`)}</h3>
            {BINDINGS.filter((b) => b.group === group && b.scopes.includes(scope)).map((binding) => (
              <div key={binding.action} style={{ display: "flex", justifyContent: "space-between", padding: "2.5px 0", gap: 12, breakInside: "avoid" }}>
                <span>{t(`keys.${binding.action}`)}</span>
                <span style={{ whiteSpace: "nowrap" }}>
                  {binding.keys.map((stroke, i) => (
                    <span key={stroke}>
                      {i > 0 && <span style={{ color: "var(--dim)" }}> / </span>}
                      {printedStroke(stroke).map((part) => <Kbd key={part} size="xs" mr={2}>{part}</Kbd>)}
                    </span>
                  ))}
                </span>
              </div>
            ))}
          </section>
        ))}
      </div>
      {scope === "study" && <p style={{ margin: "8px 0 0", color: "var(--dim)" }}>{t("keys.mouseWheel")}</p>}
    </Modal>
  );
}
