/** A small picture of the middle image of a series, drawn once. */
import { Enums, type Types, imageLoadPoolManager, imageLoader } from "@cornerstonejs/core";
import { type ReactElement, useEffect, useRef, useState } from "react";
import { shade } from "./shade";
import { useImageSeries } from "./useImageSeries";

const SIDE_PX = 112;

function draw(canvas: HTMLCanvasElement, image: Types.IImage): void {
  const centre = [image.windowCenter].flat()[0] ?? (image.maxPixelValue + image.minPixelValue) / 2;
  const width = [image.windowWidth].flat()[0] ?? image.maxPixelValue - image.minPixelValue;
  const picture = shade(
    {
      columns: image.columns, rows: image.rows, data: image.getPixelData(), lower: centre - width / 2,
      upper: centre + width / 2, inverted: image.invert, aspect: (image.rowPixelSpacing || 1) / (image.columnPixelSpacing || 1),
    },
    SIDE_PX,
  );
  canvas.getContext("2d")?.putImageData(new ImageData(picture, SIDE_PX, SIDE_PX), 0, 0);
}

export function Thumbnail({ studyUid, seriesUid, count }: { studyUid: string; seriesUid: string; count: number }): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { data: series } = useImageSeries(studyUid, seriesUid, count);
  const [drawn, setDrawn] = useState(false);
  useEffect(() => {
    const target = canvas.current;
    const imageId = series?.imageIds[Math.floor(series.imageIds.length / 2)];
    if (target === null || imageId === undefined) return undefined;
    let alive = true;
    const load = async (): Promise<void> => {
      const image = await imageLoader.loadAndCacheImage(imageId, { requestType: Enums.RequestType.Thumbnail, priority: 5 });
      if (!alive) return;
      draw(target, image);
      setDrawn(true);
    };
    // Behind whatever the reader looks at. Without a picture the series is still named.
    imageLoadPoolManager.addRequest(() => load().catch(() => undefined), Enums.RequestType.Thumbnail, { imageId }, 5);
    return () => {
      alive = false;
    };
  }, [series]);
  return <canvas ref={canvas} width={SIDE_PX} height={SIDE_PX} className="thumbnail" data-drawn={drawn} aria-hidden="true" />;
}
