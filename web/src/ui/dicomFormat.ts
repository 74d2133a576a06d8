/** DICOM dates, times and ages as text. Unknown or odd values come back as they are, never invented. */

/** DA "20240131" -> "2024-01-31". */
export function formatDate(da: string | null): string {
  const match = /^(\d{4})-?(\d{2})-?(\d{2})$/.exec(da ?? "");
  return match ? `${match[1]}-${match[2]}-${match[3]}` : (da ?? "");
}

/** TM "091530.12" -> "09:15". */
export function formatTime(tm: string): string {
  const match = /^(\d{2}):?(\d{2})/.exec(tm);
  return match ? `${match[1]}:${match[2]}` : tm;
}

/** Whole years between birth and study, or null when either is unknown or they contradict each other. */
export function ageInYears(birth: string | null, studyDate: string): number | null {
  const from = /^(\d{4})-(\d{2})-(\d{2})$/.exec(formatDate(birth));
  const to = /^(\d{4})-(\d{2})-(\d{2})$/.exec(formatDate(studyDate));
  if (!from || !to) return null;
  const years = Number(to[1]) - Number(from[1]);
  const before = Number(to[2]! + to[3]!) < Number(from[2]! + from[3]!);
  const age = years - (before ? 1 : 0);
  return age >= 0 && age < 150 ? age : null;
}

/** "M 54", with whatever of the two is known. */
export function sexAndAge(sex: string, birth: string | null, studyDate: string): string {
  const age = ageInYears(birth, studyDate);
  return [sex, age === null ? "" : String(age)].filter(Boolean).join(" ");
}

/** Aware timestamp -> local "2024-01-31 09:15". */
export function formatTimestamp(iso: string | null): string {
  if (iso === null || iso === "") return "";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** As `formatTimestamp`, without the date when it is today's and without the year when it is this one. */
export function formatReceived(iso: string, now: Date): string {
  const [full, today] = [formatTimestamp(iso), formatTimestamp(now.toISOString())];
  if (full.slice(0, 10) === today.slice(0, 10)) return full.slice(11);
  return full.slice(0, 4) === today.slice(0, 4) ? full.slice(5) : full.slice(0, 10);
}

export function formatBytes(size: number): string {
  if (size < 1024) return `${size} B`;
  if (size < 1024 * 1024) return `${(size / 1024).toFixed(0)} kB`;
  return `${(size / 1024 / 1024).toFixed(1)} MB`;
}

/** UCUM unit -> what a reader sees; the server's `core/units.py` holds the same list. */
const PRINTED_UNIT: Record<string, string> = { mm3: "mm³", "[hnsf'U]": "HU", "1": "" };

export function formatMeasure(value: number, unit: string): string {
  const printed = PRINTED_UNIT[unit] ?? unit;
  const digits = Math.abs(value) >= 100 ? 0 : 1;
  return `${value.toFixed(digits)}${printed === "%" ? " %" : printed === "" ? "" : ` ${printed}`}`;
}
