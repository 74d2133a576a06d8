/** What a reader typed, checked before it is sent. Pure; the server checks again. */
import type { Attenuation, FindingEdit } from "../api/types";

export interface EditFields {
  long: string;
  short: string;
  type: Attenuation | "";
  note: string;
}

const LENGTH_MM = { min: 0.5, max: 500 };

/** "7,5" and "7.5" are the same length; anything else that is no length is NaN. */
export function parseLength(text: string): number {
  const value = Number(text.trim().replace(",", "."));
  return text.trim() !== "" && value >= LENGTH_MM.min && value <= LENGTH_MM.max ? value : NaN;
}

/** The change to send, or the key of the text that says what is wrong. */
export function editOf(before: EditFields, now: EditFields): FindingEdit | "unchanged" | "badNumber" | "shortOverLong" {
  const edit: FindingEdit = {};
  if (now.long !== before.long) edit.long_axis_mm = parseLength(now.long);
  if (now.short !== before.short) edit.short_axis_mm = parseLength(now.short);
  if (Number.isNaN(edit.long_axis_mm) || Number.isNaN(edit.short_axis_mm)) return "badNumber";
  if (parseLength(now.short) > parseLength(now.long)) return "shortOverLong";
  if (now.type !== before.type && now.type !== "") edit.attenuation = now.type;
  if (now.note !== before.note) edit.note = now.note.trim();
  return Object.keys(edit).length === 0 ? "unchanged" : edit;
}
