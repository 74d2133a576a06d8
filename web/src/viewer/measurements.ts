/** From axes drawn by the reader to a finding of the reader's own. */
import { annotation } from "@cornerstonejs/tools";
import type { Axis, NewFinding, Point3 } from "../api/types";
import { BIDIRECTIONAL, LENGTH } from "./cornerstone";
import { type ImageFacts, distance } from "./geometry";

/** The two axes of a drawing, the longer first. */
export function axesOf(points: readonly Point3[]): [Point3, Point3][] {
  const axes: [Point3, Point3][] = [];
  for (let i = 0; i + 1 < points.length; i += 2) axes.push([points[i]!, points[i + 1]!]);
  return axes.sort((a, b) => distance(b[0], b[1]) - distance(a[0], a[1]));
}

/** The finding that these axes on this image make. Axes shorter than 1 mm are slips of the hand. */
export function findingFrom(points: readonly Point3[], image: ImageFacts, seriesUid: string): NewFinding | null {
  const reference = {
    series_instance_uid: seriesUid,
    sop_class_uid: image.sopClassUid,
    sop_instance_uid: image.sopInstanceUid,
    frame: image.frame,
  };
  const [long, short] = axesOf(points)
    .filter(([a, b]) => distance(a, b) >= 1)
    .map((ends): Axis => ({ image: reference, points_mm: ends }));
  if (long === undefined) return null;
  return short === undefined ? { long_axis: long } : { long_axis: long, short_axis: short };
}

const drawn = (name: string): ReturnType<typeof annotation.state.getAllAnnotations> =>
  annotation.state.getAllAnnotations().filter((a) => a.metadata?.toolName === name);

/** The last pair of axes, or line when there is no pair, that lies on an image of this series; and its removal. */
export function lastDrawing(
  images: readonly ImageFacts[],
  seriesUid: string,
): { finding: NewFinding; remove: () => void } | null {
  for (const name of [BIDIRECTIONAL, LENGTH]) {
    const last = drawn(name).at(-1);
    const image = images.find((i) => i.imageId === last?.metadata?.referencedImageId);
    const points = last?.data?.handles?.points as Point3[] | undefined;
    if (last?.annotationUID === undefined || image === undefined || points === undefined) continue;
    const uid = last.annotationUID;
    const finding = findingFrom(points.map((p) => [p[0], p[1], p[2]]), image, seriesUid);
    if (finding !== null) return { finding, remove: () => annotation.state.removeAnnotation(uid) };
  }
  return null;
}

export function removeAllMeasurements(): void {
  annotation.state.removeAllAnnotations();
}
