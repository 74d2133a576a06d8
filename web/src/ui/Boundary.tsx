import { Button } from "@mantine/core";
import { Component, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Middle } from "./Middle";

function Crashed(): ReactNode {
  const { t } = useTranslation();
  return (
    <Middle title={t("app.crashed")} hint={t("app.crashedHint")}>
      <Button size="xs" variant="default" onClick={() => window.location.reload()}>{t("app.reload")}</Button>
    </Middle>
  );
}

/** A part that throws takes only itself down. */
export class Boundary extends Component<{ children: ReactNode }, { crashed: boolean }> {
  override state = { crashed: false };

  static getDerivedStateFromError(): { crashed: boolean } {
    return { crashed: true };
  }

  override render(): ReactNode {
    return this.state.crashed ? <Crashed /> : this.props.children;
  }
}
