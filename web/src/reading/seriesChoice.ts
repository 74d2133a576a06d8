/** Which series is shown first. Pure. */
import type { Series, Study } from "../api/types";

const WITHOUT_PIXELS = new Set(["SR", "KO", "PR", "SEG", "DOC", "RTSTRUCT", "RTPLAN", "REG", "ECG", "AU", "PLAN", "FID"]);

/** Whether a stack can be made of it. A segmentation has pixels, but they are shown as findings. */
export const hasPixels = (series: Series): boolean => !WITHOUT_PIXELS.has(series.modality);

/** What was imaged: results that were added to the study are left out, unless there is nothing else. */
export function imageModalities(modalities: readonly string[]): string[] {
  const imaged = modalities.filter((modality) => !WITHOUT_PIXELS.has(modality));
  return imaged.length > 0 ? imaged : [...modalities];
}

/** The series most findings refer to, else the one agents looked at, else the longest that was not made here. */
export function firstSeries(study: Study): string | null {
  const candidates = study.series.filter(hasPixels);
  const known = new Set(candidates.map((s) => s.series_instance_uid));
  const votes = new Map<string, number>();
  for (const { finding } of study.findings) {
    const uid = finding.region?.contours[0]?.image.series_instance_uid ?? finding.evidence.images[0]?.series_instance_uid;
    if (uid !== undefined && known.has(uid)) votes.set(uid, (votes.get(uid) ?? 0) + 1);
  }
  const voted = [...votes].sort((a, b) => b[1] - a[1])[0]?.[0];
  const run = study.runs.find((r) => known.has(r.series_instance_uid))?.series_instance_uid;
  const longest = [...candidates].sort((a, b) => Number(a.derived) - Number(b.derived) || b.instance_count - a.instance_count)[0];
  return voted ?? run ?? longest?.series_instance_uid ?? null;
}
