import { Button, PasswordInput, TextInput } from "@mantine/core";
import { type FormEvent, type ReactElement, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useNavigate } from "react-router";
import { ApiError } from "../api/client";
import { useSignIn } from "../api/queries";
import type { Session } from "../api/types";
import { LanguageSwitch } from "./Shell";

export function SignInPage({ session }: { session: Session }): ReactElement {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const location = useLocation();
  const signIn = useSignIn();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const from = (location.state as { from?: string } | null)?.from ?? "/";
    signIn.mutate({ name, password }, { onSuccess: () => void navigate(from, { replace: true }) });
  };
  const error = signIn.error;
  const message = error instanceof ApiError && (error.isOffline || error.status >= 500) ? t("signIn.unreachable")
    : error instanceof ApiError && error.status === 401 ? t("signIn.wrong") : error?.message;
  return (
    <div style={{ display: "grid", placeItems: "center", height: "100%" }}>
      <form onSubmit={submit} style={{ width: 320, display: "grid", gap: 14, background: "var(--panel)", border: "1px solid var(--line)", borderRadius: 6, padding: 28 }}>
        <div className="brand" style={{ fontSize: 17 }}>
          <img src="/favicon.svg" width={26} height={26} alt="" />
          {t("app.name")}
          <small>{t("app.room")}</small>
        </div>
        <TextInput label={t("signIn.name")} value={name} onChange={(e) => setName(e.currentTarget.value)} autoComplete="username" autoFocus required withAsterisk={false} />
        <PasswordInput label={t("signIn.password")} value={password} onChange={(e) => setPassword(e.currentTarget.value)} autoComplete="current-password" required withAsterisk={false} />
        {signIn.isError && <div role="alert" style={{ color: "var(--danger)" }}>{message}</div>}
        <Button type="submit" loading={signIn.isPending}>{t("signIn.submit")}</Button>
        <div style={{ display: "flex", justifyContent: "space-between", alignItems: "center", color: "var(--dim)", fontSize: 11.5 }}>
          <span>{t("app.research")}</span>
          <LanguageSwitch />
        </div>
        <span style={{ color: "var(--dim)", fontSize: 11 }}>{session.version}</span>
      </form>
    </div>
  );
}
