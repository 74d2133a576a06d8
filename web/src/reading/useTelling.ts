/** Short messages to the reader, and errors in the reader's words. */
import { notifications } from "@mantine/notifications";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/client";
import { rereadStudy } from "../api/queries";

export function useTelling(uid: string) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const tell = (message: string, color = "gray"): void => {
    notifications.show({ message, color, withCloseButton: false });
  };
  const explain = (error: Error, conflict: string, failed: string): void => {
    if (error instanceof ApiError && error.isConflict) {
      tell(conflict, "yellow");
      void rereadStudy(client, uid);
    } else if (error instanceof ApiError && error.isOffline) tell(t("signIn.unreachable"), "red");
    else tell(error.message === "" ? failed : `${failed} ${error.message}`, "red");
  };
  return { tell, explain };
}
