/** One series from DICOMweb metadata to image ids that Cornerstone3D can load. */
import { wadors } from "@cornerstonejs/dicom-image-loader";
import { type DicomInstance, frameAddress, seriesMetadata } from "../api/dicomweb";
import type { Point3 } from "../api/types";
import { type ImageFacts, inReadingOrder, isVolume } from "./geometry";
import { startCornerstone } from "./cornerstone";

export interface ImageSeries {
  studyUid: string;
  seriesUid: string;
  modality: string;
  images: ImageFacts[];
  imageIds: string[];
  volumetric: boolean;
}

function numbers(instance: DicomInstance, tag: string, count: number): number[] | null {
  const values = (instance[tag]?.Value ?? []).map(Number);
  return values.length >= count && values.every(Number.isFinite) ? values : null;
}

const text = (instance: DicomInstance, tag: string): string => String(instance[tag]?.Value?.[0] ?? "");

/** The frames of one instance; nothing for instances without pixels (DICOM PS3.3 C.7.6.3). */
export function factsOf(instance: DicomInstance, studyUid: string, seriesUid: string): ImageFacts[] {
  const rows = numbers(instance, "00280010", 1)?.[0];
  const columns = numbers(instance, "00280011", 1)?.[0];
  if (!rows || !columns) return [];
  const position = numbers(instance, "00200032", 3);
  const direction = numbers(instance, "00200037", 6);
  const spacing = numbers(instance, "00280030", 2);
  const frames = numbers(instance, "00280008", 1)?.[0] ?? 1;
  const sopInstanceUid = text(instance, "00080018");
  return Array.from({ length: frames }, (_, index) => ({
    imageId: `wadors:${frameAddress(studyUid, seriesUid, sopInstanceUid, index + 1)}`,
    sopInstanceUid,
    sopClassUid: text(instance, "00080016"),
    frame: index + 1,
    rows,
    columns,
    position: position && frames === 1 ? (position.slice(0, 3) as Point3) : null,
    orientation:
      direction && frames === 1 ? [direction.slice(0, 3) as Point3, direction.slice(3, 6) as Point3] : null,
    spacing: spacing ? [spacing[0]!, spacing[1]!] : null,
    thicknessMm: numbers(instance, "00180050", 1)?.[0] ?? null,
    instanceNumber: numbers(instance, "00200013", 1)?.[0] ?? null,
  }));
}

export async function loadSeries(studyUid: string, seriesUid: string, signal?: AbortSignal): Promise<ImageSeries> {
  const [instances] = await Promise.all([seriesMetadata(studyUid, seriesUid, signal), startCornerstone()]);
  const facts: ImageFacts[] = [];
  for (const instance of instances) {
    const frames = factsOf(instance, studyUid, seriesUid);
    for (const frame of frames) wadors.metaDataManager.add(frame.imageId, instance as never);
    facts.push(...frames);
  }
  const images = inReadingOrder(facts);
  return {
    studyUid,
    seriesUid,
    modality: instances[0] === undefined ? "" : text(instances[0], "00080060"),
    images,
    imageIds: images.map((image) => image.imageId),
    volumetric: isVolume(images),
  };
}
