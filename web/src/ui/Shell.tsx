/** The bar above every page: where one is, who one is, which language, whether the line is up. */
import { Tooltip } from "@mantine/core";
import { type ReactElement, type ReactNode, useState } from "react";
import { createPortal } from "react-dom";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "react-router";
import { useLiveUpdates } from "../api/events";
import { useSignOut } from "../api/queries";
import type { Session } from "../api/types";
import { useLanguage } from "../i18n";
import { HelpDialog } from "./HelpDialog";
import { useKeys } from "./keys";

const SLOT = "topbar-slot";

/** Put something of a page into the bar. */
export function TopbarSlot({ children }: { children: ReactNode }): ReactElement | null {
  const host = document.getElementById(SLOT);
  return host === null ? null : (createPortal(children, host) as unknown as ReactElement);
}

export function LanguageSwitch(): ReactElement {
  const { t } = useTranslation();
  const { lang, setLang } = useLanguage();
  return (
    <div className="segmented" role="group" aria-label={t("app.language")}>
      <button type="button" className="plain" lang="en" aria-pressed={lang === "en"} onClick={() => setLang("en")}>EN</button>
      <button type="button" className="plain" lang="zh" aria-pressed={lang === "zh"} onClick={() => setLang("zh")}>中文</button>
    </div>
  );
}

export function Shell({ session, children }: { session: Session; children: ReactNode }): ReactElement {
  const { t } = useTranslation();
  const { toggle } = useLanguage();
  const location = useLocation();
  const signOut = useSignOut();
  const connected = useLiveUpdates(session.person !== null);
  const [help, setHelp] = useState(false);
  const scope = location.pathname.startsWith("/study/") ? "study" : "worklist";
  useKeys(scope, { help: () => setHelp(true), language: toggle });
  return (
    <div className="shell">
      <header className="topbar">
        <Link to="/" className="brand" aria-label={t("app.toWorklist")}>
          <img src="/favicon.svg" width={20} height={20} alt="" />
          {t("app.name")}
          <small>{t("app.room")}</small>
        </Link>
        <div id={SLOT} style={{ display: "contents" }} />
        <span className="spacer" />
        {!connected && <span className="offline" role="status">{t("app.offline")}</span>}
        <span className="research">{t("app.research")}</span>
        {session.demo && <Tooltip label={t("app.demoHint")}><span className="chip-demo">{t("app.demo")}</span></Tooltip>}
        <LanguageSwitch />
        <Tooltip label={t("app.help")}>
          <button type="button" className="plain topbutton" aria-label={t("app.help")} onClick={() => setHelp(true)}>?</button>
        </Tooltip>
        <span className="who">{session.person?.name}</span>
        <button type="button" className="plain topbutton" onClick={() => signOut.mutate()}>{t("app.signOut")}</button>
      </header>
      <main style={{ minHeight: 0, minWidth: 0 }}>{children}</main>
      <HelpDialog opened={help} onClose={() => setHelp(false)} scope={scope} />
    </div>
  );
}
