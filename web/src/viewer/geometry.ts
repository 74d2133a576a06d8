/** Patient space arithmetic (LPS, mm; DICOM PS3.3 C.7.6.2.1.1). Pure. */
import type { Contour, Finding, Point3 } from "../api/types";

export const add = (a: Point3, b: Point3): Point3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const subtract = (a: Point3, b: Point3): Point3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a: Point3, by: number): Point3 => [a[0] * by, a[1] * by, a[2] * by];
export const dot = (a: Point3, b: Point3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a: Point3, b: Point3): Point3 => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const norm = (a: Point3): number => Math.hypot(a[0], a[1], a[2]);
export const distance = (a: Point3, b: Point3): number => norm(subtract(a, b));

/** What the viewer needs to know of one image. */
export interface ImageFacts {
  imageId: string;
  sopInstanceUid: string;
  sopClassUid: string;
  frame: number;
  rows: number;
  columns: number;
  /** Image Position (Patient); null for images without a place in space. */
  position: Point3 | null;
  /** Row and column direction cosines. */
  orientation: [Point3, Point3] | null;
  /** Row and column spacing. */
  spacing: [number, number] | null;
  thicknessMm: number | null;
  instanceNumber: number | null;
}

export function normalOf(image: ImageFacts): Point3 | null {
  return image.orientation === null ? null : cross(image.orientation[0], image.orientation[1]);
}

/** Signed distance of the image's plane along `normal`. */
function depth(image: ImageFacts, normal: Point3): number {
  return image.position === null ? 0 : dot(image.position, normal);
}

/**
 * Reading order: head to feet for axial series (and along the normal for others) when every image has a place in
 * space and one orientation; else by instance number.
 */
export function inReadingOrder(images: readonly ImageFacts[]): ImageFacts[] {
  const first = images[0];
  const normal = first === undefined ? null : normalOf(first);
  const placed = normal !== null && images.every((image) => {
    const other = normalOf(image);
    return image.position !== null && other !== null && Math.abs(dot(other, normal)) > 0.99;
  });
  if (!placed) {
    return [...images].sort((a, b) => (a.instanceNumber ?? 0) - (b.instanceNumber ?? 0) || a.frame - b.frame);
  }
  const axial = Math.abs(normal[2]) > 0.7;
  const sign = axial && normal[2] > 0 ? -1 : 1;
  return [...images].sort((a, b) => sign * (depth(a, normal) - depth(b, normal)) || a.frame - b.frame);
}

/** Whether sorted images form one evenly spaced stack of equal size, so that planes may be cut through it. */
export function isVolume(sorted: readonly ImageFacts[]): boolean {
  const first = sorted[0];
  const normal = first === undefined ? null : normalOf(first);
  if (first === undefined || normal === null || sorted.length < 5 || first.spacing === null) return false;
  const steps: number[] = [];
  for (let i = 1; i < sorted.length; i++) {
    const image = sorted[i]!;
    const other = normalOf(image);
    if (image.position === null || other === null || dot(other, normal) < 0.999) return false;
    if (image.rows !== first.rows || image.columns !== first.columns) return false;
    steps.push(Math.abs(depth(image, normal) - depth(sorted[i - 1]!, normal)));
  }
  const median = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)]!;
  return median > 0 && steps.every((step) => Math.abs(step - median) < 0.1 * median + 0.02);
}

/** Index of the image whose plane is nearest to the point, and how far it is; null without places in space. */
export function nearestImage(images: readonly ImageFacts[], point: Point3): { index: number; distanceMm: number } | null {
  let best: { index: number; distanceMm: number } | null = null;
  images.forEach((image, index) => {
    const normal = normalOf(image);
    if (normal === null || image.position === null) return;
    const distanceMm = Math.abs(dot(subtract(point, image.position), normal));
    if (best === null || distanceMm < best.distanceMm) best = { index, distanceMm };
  });
  return best;
}

/** Centre of the image in patient space. */
export function centreOf(image: ImageFacts): Point3 | null {
  if (image.position === null || image.orientation === null || image.spacing === null) return null;
  const [row, column] = image.orientation;
  const across = scale(row, (image.spacing[1] * (image.columns - 1)) / 2);
  const down = scale(column, (image.spacing[0] * (image.rows - 1)) / 2);
  return add(image.position, add(across, down));
}

/** Area of a planar closed outline, mm². */
export function areaMm2(points: readonly Point3[]): number {
  let sum: Point3 = [0, 0, 0];
  for (let i = 0; i < points.length; i++) sum = add(sum, cross(points[i]!, points[(i + 1) % points.length]!));
  return norm(sum) / 2;
}

/** The contour that shows a finding best: the largest. */
export function mainContour(contours: readonly Contour[]): Contour | null {
  let best: Contour | null = null;
  let bestArea = -1;
  for (const contour of contours) {
    const area = areaMm2(contour.points_mm);
    if (area > bestArea) [best, bestArea] = [contour, area];
  }
  return best;
}

/** The image on which to show a finding: that of its largest contour, else the plane nearest to its centre. */
export function imageForFinding(images: readonly ImageFacts[], finding: Finding): number | null {
  if (finding.region === null) return null;
  const main = mainContour(finding.region.contours);
  if (main !== null) {
    const index = images.findIndex(
      (image) => image.sopInstanceUid === main.image.sop_instance_uid && image.frame === main.image.frame,
    );
    if (index >= 0) return index;
  }
  const nearest = nearestImage(images, finding.region.centre_mm);
  return nearest === null || nearest.distanceMm > 20 ? null : nearest.index;
}

/** Half of the longest measured extent, for markers and framing; at least 2 mm. */
export function radiusMm(finding: Finding): number {
  const long = finding.measurements.find((m) => m.unit === "mm" && m.code.code === "103339001")?.value;
  if (long !== undefined) return Math.max(2, long / 2);
  const bounds = finding.region?.bounds_mm;
  return bounds ? Math.max(2, distance(bounds[0], bounds[1]) / 2 / Math.sqrt(3)) : 5;
}

/** Letters of the directions at the right and lower edge of a view; two letters when oblique. */
export function directionLetters(direction: Point3): string {
  const names: [string, string][] = [["L", "R"], ["P", "A"], ["H", "F"]];
  return direction
    .map((value, axis) => ({ value, axis }))
    .filter(({ value }) => Math.abs(value) > 0.3)
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .slice(0, 2)
    .map(({ value, axis }) => names[axis]![value > 0 ? 0 : 1])
    .join("");
}

/** Where two planes through `cursor` meet: the direction of that line, or null when they are parallel. */
export function meetingDirection(normalA: Point3, normalB: Point3): Point3 | null {
  const line = cross(normalA, normalB);
  const length = norm(line);
  return length < 0.05 ? null : scale(line, 1 / length);
}
