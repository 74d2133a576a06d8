/** Routes, and who may see them. */
import { Button, Loader } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactElement, lazy, Suspense, useEffect } from "react";
import { useTranslation } from "react-i18next";
import { Navigate, Route, Routes, useLocation } from "react-router";
import { setSignedOutListener } from "../api/client";
import { SESSION_KEY, useSession } from "../api/queries";
import { WorklistPage } from "../reading/WorklistPage";
import { Boundary } from "./Boundary";
import { Middle } from "./Middle";
import { Shell } from "./Shell";
import { SignInPage } from "./SignInPage";

// The viewer brings four megabytes; the worklist must not wait for them.
const StudyPage = lazy(() => import("../reading/StudyPage"));

export function App(): ReactElement {
  const { t } = useTranslation();
  const client = useQueryClient();
  const location = useLocation();
  const session = useSession();

  useEffect(() => {
    setSignedOutListener(() => void client.invalidateQueries({ queryKey: SESSION_KEY }));
  }, [client]);

  if (session.isPending) return <Middle><Loader size="sm" /></Middle>;
  if (session.isError) {
    return (
      <Middle title={t("signIn.unreachable")}>
        <Button size="xs" variant="default" onClick={() => void session.refetch()}>{t("app.retry")}</Button>
      </Middle>
    );
  }
  if (session.data.person === null) {
    return (
      <Routes>
        <Route path="/sign-in" element={<SignInPage session={session.data} />} />
        <Route path="*" element={<Navigate to="/sign-in" replace state={{ from: location.pathname + location.search }} />} />
      </Routes>
    );
  }
  return (
    <Shell session={session.data}>
      <Boundary>
        <Suspense fallback={<Middle><Loader size="sm" /></Middle>}>
          <Routes>
            <Route path="/" element={<WorklistPage />} />
            <Route path="/study/:uid" element={<StudyPage person={session.data.person} />} />
            <Route path="/sign-in" element={<Navigate to={(location.state as { from?: string } | null)?.from ?? "/"} replace />} />
            <Route path="*" element={<Middle title={t("app.notFound")} />} />
          </Routes>
        </Suspense>
      </Boundary>
    </Shell>
  );
}
