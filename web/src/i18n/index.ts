/** Language of the page and of the report: remembered in this browser, asked of it the first time. */
import i18next from "i18next";
import { useCallback } from "react";
import { initReactI18next, useTranslation } from "react-i18next";
import type { Language } from "../api/types";
import { en } from "./en";
import { zh } from "./zh";

const STORED = "polyclinic.language";

export function preferredLanguage(stored: string | null, browser: readonly string[]): Language {
  if (stored === "en" || stored === "zh") return stored;
  return browser[0]?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export async function startI18n(): Promise<void> {
  const lng = preferredLanguage(localStorage.getItem(STORED), navigator.languages);
  await i18next.use(initReactI18next).init({
    lng,
    fallbackLng: "en",
    resources: { en: { translation: en }, zh: { translation: zh } },
    // React escapes text; escaping twice would spoil names with an ampersand.
    interpolation: { escapeValue: false },
  });
  document.documentElement.lang = lng;
}

export function useLanguage(): { lang: Language; setLang: (lang: Language) => void; toggle: () => void } {
  const { i18n } = useTranslation();
  const lang: Language = i18n.language === "zh" ? "zh" : "en";
  const setLang = useCallback(
    (next: Language) => {
      localStorage.setItem(STORED, next);
      document.documentElement.lang = next;
      void i18n.changeLanguage(next);
    },
    [i18n],
  );
  return { lang, setLang, toggle: () => setLang(lang === "en" ? "zh" : "en") };
}
