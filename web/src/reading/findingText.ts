/** How a finding is put into words and numbers on the page. Pure. */
import type { Attenuation, Finding, FindingView, Measurement, Report } from "../api/types";

const LONG_AXIS = "103339001";
const SHORT_AXIS = "103340004";
const VOLUME = "118565006";
const LEFT = "7771000";
const RIGHT = "24028007";
const NODULE_ATTENUATION = "nodule-attenuation";

/** Code -> key under `measure.` of the dictionary. */
const MEASURE_KEY: Record<string, string> = {
  [LONG_AXIS]: "long-axis",
  [SHORT_AXIS]: "short-axis",
  [VOLUME]: "volume",
  "mean-diameter": "mean-diameter",
  "laa-950": "laa-950",
  "perc-15": "perc-15",
  "mean-attenuation": "mean-attenuation",
  "81827009": "diameter",
  "agatston-equivalent": "agatston-equivalent",
  "share-of-lung": "share-of-lung",
  "consolidated-share": "consolidated-share",
  "prior-mean-diameter": "prior-mean-diameter",
  "prior-volume": "prior-volume",
  "prior-interval": "prior-interval",
  "volume-change": "volume-change",
  "volume-doubling-time": "volume-doubling-time",
};

const ATTENUATIONS: readonly Attenuation[] = ["solid", "part-solid", "ground-glass", "calcified"];

const valueOf = (finding: Finding, code: string): number | null =>
  finding.measurements.find((m) => m.code.code === code)?.value ?? null;

export const longAxisMm = (finding: Finding): number | null => valueOf(finding, LONG_AXIS);
export const shortAxisMm = (finding: Finding): number | null => valueOf(finding, SHORT_AXIS);

export function sideOf(finding: Finding): "left" | "right" | null {
  const code = finding.laterality?.code;
  return code === LEFT ? "left" : code === RIGHT ? "right" : null;
}

export function attenuationOf(finding: Finding): Attenuation | null {
  const code = finding.attributes.find((a) => a.code.code === NODULE_ATTENUATION)?.value.code;
  return ATTENUATIONS.find((a) => a === code) ?? null;
}

/** "9.2 × 7.1 mm", or what there is of it; empty for findings without axes. */
export function sizeOf(finding: Finding): string {
  const axes = [longAxisMm(finding), shortAxisMm(finding)].filter((v): v is number => v !== null);
  return axes.length === 0 ? "" : `${axes.map((v) => v.toFixed(1)).join(" × ")} mm`;
}

export const measureKey = (measurement: Measurement): string | null => MEASURE_KEY[measurement.code.code] ?? null;

/** Measurements other than the two axes, which the size already tells. */
export const otherMeasurements = (finding: Finding): Measurement[] =>
  finding.measurements.filter((m) => m.code.code !== LONG_AXIS && m.code.code !== SHORT_AXIS);

/** The finding to go to after deciding on one: the next undecided one below it, else the first above. */
/** A confidence as whole percent. No agent is ever certain, so 0 and 100 are not shown. */
export function percentOf(confidence: number): number {
  return Math.min(99, Math.max(1, Math.round(confidence * 100)));
}

export function nextUndecided(findings: readonly FindingView[], fromId: string | null): string | null {
  const at = findings.findIndex((f) => f.finding.id === fromId);
  const order = [...findings.slice(at + 1), ...findings.slice(0, Math.max(0, at))];
  return order.find((f) => f.finding.state === "proposed")?.finding.id ?? null;
}

/** The neighbour in the list; stays at the ends, starts at the near end when nothing is selected. */
export function neighbour(findings: readonly FindingView[], fromId: string | null, step: 1 | -1): string | null {
  if (findings.length === 0) return null;
  const at = findings.findIndex((f) => f.finding.id === fromId);
  if (at < 0) return findings[step === 1 ? 0 : findings.length - 1]!.finding.id;
  return findings[Math.max(0, Math.min(findings.length - 1, at + step))]!.finding.id;
}

export interface Chip {
  findingId: string;
  number: number;
}

/** Chips of a sentence, numbered as in the list; findings that are not in the list (any more) have none. */
export function chipsOf(findingIds: readonly string[], findings: readonly FindingView[]): Chip[] {
  return [...new Set(findingIds)].flatMap((findingId) => {
    const at = findings.findIndex((f) => f.finding.id === findingId);
    return at < 0 ? [] : [{ findingId, number: at + 1 }];
  });
}

export function countByState(findings: readonly FindingView[]): Record<Finding["state"], number> {
  const counts = { proposed: 0, accepted: 0, edited: 0, rejected: 0 };
  for (const { finding } of findings) counts[finding.state] += 1;
  return counts;
}

/** Why a report may not be signed yet; null when it may. */
export function obstacle(report: Report | undefined, findings: readonly FindingView[], studyState: string): "final" | "undecided" | "not-ready" | null {
  if (report === undefined) return "not-ready";
  if (report.state === "final") return "final";
  if (!["ready", "failed"].includes(studyState)) return "not-ready";
  return report.undecided > 0 || countByState(findings).proposed > 0 ? "undecided" : null;
}
