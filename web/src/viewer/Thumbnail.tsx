/** A small picture of the middle image of a series, drawn once. */
import { Enums, utilities } from "@cornerstonejs/core";
import { useQuery } from "@tanstack/react-query";
import { type ReactElement, useEffect, useRef, useState } from "react";
import { loadSeries } from "./series";

const SIDE_PX = 56;

export const useImageSeries = (studyUid: string, seriesUid: string | null) =>
  useQuery({
    queryKey: ["images", studyUid, seriesUid],
    queryFn: ({ signal }) => loadSeries(studyUid, seriesUid ?? "", signal),
    enabled: seriesUid !== null,
    // The images of a series do not change under the reader; a new revision comes with a new count, see SeriesList.
    staleTime: Infinity,
    gcTime: 30 * 60_000,
    retry: 1,
  });

export function Thumbnail({ studyUid, seriesUid }: { studyUid: string; seriesUid: string }): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { data: series } = useImageSeries(studyUid, seriesUid);
  const [drawn, setDrawn] = useState(false);
  useEffect(() => {
    const target = canvas.current;
    const imageId = series?.imageIds[Math.floor(series.imageIds.length / 2)];
    if (target === null || imageId === undefined) return undefined;
    let alive = true;
    utilities
      .loadImageToCanvas({ canvas: target, imageId, requestType: Enums.RequestType.Thumbnail, priority: -5, thumbnail: true })
      .then(() => alive && setDrawn(true), () => undefined);
    return () => {
      alive = false;
    };
  }, [series]);
  return <canvas ref={canvas} width={SIDE_PX} height={SIDE_PX} className="thumbnail" data-drawn={drawn} aria-hidden="true" />;
}
