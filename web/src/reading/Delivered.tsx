/** What signing made and where it went. */
import { notifications } from "@mantine/notifications";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { downloadInstance } from "../api/dicomweb";
import { useDeliveries, useObjects, useRetryDelivery } from "../api/queries";
import type { Delivery } from "../api/types";
import { formatBytes } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";
import { useTelling } from "./useTelling";

const COLOUR: Record<Delivery["state"], string> = { queued: "var(--dim)", sent: "var(--accepted)", failed: "var(--danger)" };

/** `underWay`: not everything is made and sent yet; `stuck`: and something stands in the way. */
export function Delivered({ uid, underWay, stuck }: { uid: string; underWay: boolean; stuck: boolean }): ReactElement {
  const { t } = useTranslation();
  const objects = useObjects(uid, underWay);
  const deliveries = useDeliveries(uid, underWay);
  const waiting = underWay ? t(stuck ? "report.objectsNotMade" : "report.noObjects") : null;
  const download = (series: string, sop: string, kind: string): void => {
    downloadInstance(uid, series, sop, `${kind.toLowerCase()}-${sop.slice(-8)}.dcm`).catch(() =>
      notifications.show({ message: t("report.downloadFailed"), color: "red" }),
    );
  };
  return (
    <div className="delivered">
      <h3>{t("report.objects")}</h3>
      {objects.data?.length === 0 && <p className="quiet">{waiting ?? t("report.noObjects")}</p>}
      <ul>
        {objects.data?.map((object) => (
          <li key={object.sop_instance_uid} data-object={object.kind}>
            <b>{object.kind}</b>
            <span>{object.description}</span>
            <small>{formatBytes(object.size_bytes)}</small>
            <button type="button" className="plain topbutton" aria-label={t("report.download", { name: object.kind })}
              onClick={() => download(object.series_instance_uid, object.sop_instance_uid, object.kind)}>
              <Icon name="download" size={14} />
            </button>
          </li>
        ))}
      </ul>
      <h3>{t("report.deliveries")}</h3>
      {deliveries.data?.length === 0 && <p className="quiet">{waiting ?? t("report.noDeliveries")}</p>}
      <ul>
        {deliveries.data?.map((delivery) => <DeliveryView key={delivery.key} uid={uid} delivery={delivery} />)}
      </ul>
    </div>
  );
}

function DeliveryView({ uid, delivery }: { uid: string; delivery: Delivery }): ReactElement {
  const { t } = useTranslation();
  const retry = useRetryDelivery(uid);
  const { tell, explain } = useTelling(uid);
  const sendAgain = (): void =>
    retry.mutate(delivery.key, {
      onSuccess: () => tell(t("report.sendsAgain"), "green"),
      onError: (error) => explain(error, t("study.changedMeanwhile"), t("report.notSentAgain")),
    });
  return (
    <li data-delivery={delivery.kind} data-delivery-state={delivery.state}>
      <b>{delivery.kind}</b>
      <span>{delivery.destination}</span>
      <small style={{ color: COLOUR[delivery.state] }}>{t(`report.deliveryState.${delivery.state}`)}</small>
      <small>{t("report.attempts", { count: delivery.attempts })}</small>
      {delivery.state !== "sent" && delivery.reason !== "" && <p>{delivery.reason}</p>}
      {delivery.state === "failed" && (
        <button type="button" className="plain link" disabled={retry.isPending} onClick={sendAgain}>{t("report.sendAgain")}</button>
      )}
    </li>
  );
}
