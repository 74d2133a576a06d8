/** What was corrected of the patient since the images came, as one line for the reader. */
import type { IdentityStep, PatientIdentity } from "../api/types";
import { formatDate } from "../ui/dicomFormat";
import { printPatientName } from "../ui/patientName";

const PARTS: readonly ((patient: PatientIdentity) => string)[] = [
  (patient) => printPatientName(patient.name),
  (patient) => [patient.patient_id, patient.issuer].filter(Boolean).join(" / "),
  (patient) => formatDate(patient.birth_date),
  (patient) => patient.sex,
];

/** The parts that the correction changed, as they were before: "王小东  Wang, XiaoDong, P-1". A part that was empty is shown as "-". */
export function whatItWas(step: Pick<IdentityStep, "before" | "after">): string {
  return PARTS.filter((part) => part(step.before) !== part(step.after))
    .map((part) => part(step.before) || "-")
    .join(", ");
}
