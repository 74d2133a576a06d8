/** DICOM person names (PS3.5 6.2.1): up to three component groups, `alphabetic=ideographic=phonetic`. */

export interface PatientName {
  /** "Wang, XiaoDong" */
  alphabetic: string;
  /** "王小东"; empty when the name carries none. */
  ideographic: string;
  phonetic: string;
}

const CJK = /[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]/;

function alphabeticGroup(group: string): string {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] = group.split("^").map((c) => c.trim());
  const first = [prefix, given, middle].filter(Boolean).join(" ");
  const name = [family, first].filter(Boolean).join(", ");
  return [name, suffix].filter(Boolean).join(" ");
}

function ideographicGroup(group: string): string {
  return group.split("^").map((c) => c.trim()).filter(Boolean).join(CJK.test(group) ? "" : " ");
}

/** Split a PN into what is printed. A first group in Chinese, Japanese or Korean script counts as ideographic. */
export function parsePatientName(value: string): PatientName {
  const [first = "", second = "", third = ""] = value.split("=");
  if (second.trim() === "" && CJK.test(first)) {
    return { alphabetic: "", ideographic: ideographicGroup(first), phonetic: ideographicGroup(third) };
  }
  return {
    alphabetic: alphabeticGroup(first),
    ideographic: ideographicGroup(second),
    phonetic: ideographicGroup(third),
  };
}

/** The name on one line, the script of the patient first: "王小东  Wang, XiaoDong". */
export function printPatientName(value: string): string {
  const { alphabetic, ideographic } = parsePatientName(value);
  return [ideographic, alphabetic].filter(Boolean).join("  ");
}
