/** Window presets, HU. */
import type { Action } from "../ui/keys";

export interface Range {
  lower: number;
  upper: number;
}

export type PresetName = "lung" | "mediastinum" | "bone" | "soft" | "brain";

const window = (width: number, centre: number): Range => ({ lower: centre - width / 2, upper: centre + width / 2 });

export const PRESETS: readonly { name: PresetName; action: Action; range: Range }[] = [
  { name: "lung", action: "presetLung", range: window(1500, -600) },
  { name: "mediastinum", action: "presetMediastinum", range: window(350, 40) },
  { name: "bone", action: "presetBone", range: window(2000, 400) },
  { name: "soft", action: "presetSoft", range: window(400, 50) },
  { name: "brain", action: "presetBrain", range: window(80, 40) },
];

/** The preset that a range is, or null. */
export function presetOf(range: Range): PresetName | null {
  // DICOM's and the graphics card's ideas of where a window ends differ by one (PS3.3 C.11.2.1.2.1).
  return PRESETS.find((p) => Math.abs(p.range.lower - range.lower) < 2 && Math.abs(p.range.upper - range.upper) < 2)?.name ?? null;
}

/** "W 1500  L -600" */
export function printWindow({ lower, upper }: Range): string {
  return `W ${Math.round(upper - lower)}  L ${Math.round((upper + lower) / 2)}`;
}
