/** What signing made and where it went. */
import { notifications } from "@mantine/notifications";
import type { ReactElement } from "react";
import { useTranslation } from "react-i18next";
import { downloadInstance } from "../api/dicomweb";
import { useDeliveries, useObjects } from "../api/queries";
import type { Delivery } from "../api/types";
import { formatBytes } from "../ui/dicomFormat";
import { Icon } from "../ui/icons";

const COLOUR: Record<Delivery["state"], string> = { queued: "var(--dim)", sent: "var(--accepted)", failed: "var(--danger)" };

export function Delivered({ uid, underWay }: { uid: string; underWay: boolean }): ReactElement {
  const { t } = useTranslation();
  const objects = useObjects(uid, underWay);
  const deliveries = useDeliveries(uid, underWay);
  const download = (series: string, sop: string, kind: string): void => {
    downloadInstance(uid, series, sop, `${kind.toLowerCase()}-${sop.slice(-8)}.dcm`).catch(() =>
      notifications.show({ message: t("report.downloadFailed"), color: "red" }),
    );
  };
  return (
    <div className="delivered">
      <h3>{t("report.objects")}</h3>
      {objects.data?.length === 0 && <p className="quiet">{t("report.noObjects")}</p>}
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
      {deliveries.data?.length === 0 && <p className="quiet">{underWay ? t("report.noObjects") : t("report.noDeliveries")}</p>}
      <ul>
        {deliveries.data?.map((delivery) => (
          <li key={`${delivery.destination} ${delivery.kind}`}>
            <b>{delivery.kind}</b>
            <span>{delivery.destination}{delivery.reason !== "" && <i> {delivery.reason}</i>}</span>
            <small style={{ color: COLOUR[delivery.state] }}>{t(`report.deliveryState.${delivery.state}`)}</small>
            <small>{t("report.attempts", { count: delivery.attempts })}</small>
          </li>
        ))}
      </ul>
    </div>
  );
}
