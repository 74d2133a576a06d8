/** Whether a study can be taken up again as a whole. */
import type { Delivery, StudyState } from "../api/types";

/**
 * A failed study always. A signed one when a reason stands although nothing waits or failed on its way out:
 * then its objects were never made. A delivery that failed is sent again by itself.
 */
export function canTakeUp(state: StudyState, reason: string, deliveries: readonly Delivery[] | undefined): boolean {
  if (state === "failed") return true;
  return state === "signed" && reason !== "" && deliveries !== undefined && deliveries.every((one) => one.state === "sent");
}
