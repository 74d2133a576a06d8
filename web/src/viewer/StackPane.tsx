/** One series as a stack: original images, findings drawn where they lie, measuring. */
import { Enums, RenderingEngine, type Types, eventTarget, imageLoader, utilities } from "@cornerstonejs/core";
import { ToolGroupManager, type Types as ToolTypes } from "@cornerstonejs/tools";
import { type ReactElement, useEffect, useImperativeHandle, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Finding, Point3 } from "../api/types";
import { chooseTool, makeToolGroup } from "./cornerstone";
import { centreOf, dot, imageForFinding, nearestImage, normalOf, radiusMm, scale, subtract, add } from "./geometry";
import { lastDrawing, removeAllMeasurements } from "./measurements";
import { Corners, DirectionLetters, Marks, marksOf } from "./overlay";
import type { PaneProps } from "./pane";
import { type Prefetch, startPrefetch } from "./prefetch";
import { type Range, printWindow } from "./presets";
import { SliceBar } from "./SliceBar";

const ENGINE = "reading-stack";
const VIEWPORT = "stack";

interface Live {
  engine: RenderingEngine;
  viewport: Types.IStackViewport;
  group: ToolTypes.IToolGroup;
  prefetch: Prefetch | null;
  /** Whether the first image is up; commands that come earlier are dropped, `onReady` repeats what matters. */
  ready: boolean;
}

export function StackPane(props: PaneProps): ReactElement {
  const { series, findings, selectedId, tool, contours, corner, onSelect } = props;
  const { t } = useTranslation();
  const element = useRef<HTMLDivElement>(null);
  const live = useRef<Live | null>(null);
  const given = useRef(props);
  given.current = props;
  const [, redraw] = useState(0);
  const [index, setIndex] = useState(0);
  const [loaded, setLoaded] = useState(0);
  const [failed, setFailed] = useState<number | null>(null);
  const [ready, setReady] = useState(false);

  useEffect(() => {
    const host = element.current;
    if (host === null || series.imageIds.length === 0) return undefined;
    let alive = true;
    setReady(false);
    setLoaded(0);
    setFailed(null);
    const engine = new RenderingEngine(ENGINE);
    engine.enableElement({
      viewportId: VIEWPORT, type: Enums.ViewportType.STACK, element: host, defaultOptions: { background: [0, 0, 0] },
    });
    const viewport = engine.getViewport(VIEWPORT) as Types.IStackViewport;
    const group = makeToolGroup(VIEWPORT);
    group.addViewport(VIEWPORT, ENGINE);
    chooseTool(group, given.current.tool === "crosshair" ? "window" : given.current.tool);
    const now: Live = { engine, viewport, group, prefetch: null, ready: false };
    live.current = now;

    const onRendered = (): void => redraw((n) => n + 1);
    const onImage = (): void => {
      const at = viewport.getCurrentImageIdIndex();
      setIndex(at);
      setFailed(null);
      now.prefetch?.moveTo(at);
    };
    const onVoi = (event: Event): void => {
      const range = (event as CustomEvent<Types.EventTypes.VoiModifiedEventDetail>).detail.range as Range;
      given.current.onWindow(range);
    };
    const onFailed = (event: Event): void => {
      const { imageId } = (event as CustomEvent<{ imageId: string }>).detail;
      const at = series.imageIds.indexOf(imageId);
      if (at >= 0 && at === viewport.getTargetImageIdIndex()) setFailed(at);
    };
    host.addEventListener(Enums.Events.IMAGE_RENDERED, onRendered);
    host.addEventListener(Enums.Events.STACK_NEW_IMAGE, onImage);
    host.addEventListener(Enums.Events.VOI_MODIFIED, onVoi);
    eventTarget.addEventListener(Enums.Events.IMAGE_LOAD_ERROR, onFailed);
    const resize = new ResizeObserver(() => engine.resize(true, true));
    resize.observe(host);

    const { place, window } = given.current;
    const near = place === null ? null : nearestImage(series.images, place);
    const start = near?.index ?? Math.floor(series.imageIds.length / 2);
    void viewport.setStack(series.imageIds, start).then(
      () => {
        if (!alive) return;
        if (window !== null) viewport.setProperties({ voiRange: window });
        viewport.render();
        setIndex(start);
        now.ready = true;
        setReady(true);
        given.current.onReady();
        now.prefetch = startPrefetch(
          series.imageIds.length,
          (i) => imageLoader.loadAndCacheImage(series.imageIds[i]!, { requestType: Enums.RequestType.Prefetch, priority: 0 }),
          (count) => alive && setLoaded(count),
        );
        now.prefetch.moveTo(start);
      },
      () => alive && setFailed(start),
    );
    return () => {
      alive = false;
      now.prefetch?.stop();
      resize.disconnect();
      host.removeEventListener(Enums.Events.IMAGE_RENDERED, onRendered);
      host.removeEventListener(Enums.Events.STACK_NEW_IMAGE, onImage);
      host.removeEventListener(Enums.Events.VOI_MODIFIED, onVoi);
      eventTarget.removeEventListener(Enums.Events.IMAGE_LOAD_ERROR, onFailed);
      ToolGroupManager.destroyToolGroup(VIEWPORT);
      engine.destroy();
      live.current = null;
    };
  }, [series]);

  useEffect(() => {
    if (live.current !== null) chooseTool(live.current.group, tool === "crosshair" ? "window" : tool);
  }, [tool]);

  const goTo = (at: number): void => {
    const viewport = live.current?.viewport;
    if (viewport === undefined || live.current?.ready !== true) return;
    const bounded = Math.max(0, Math.min(series.imageIds.length - 1, at));
    // A debounced scroll: only the image at which the reader stops has to be loaded.
    utilities.scroll(viewport, { delta: bounded - viewport.getTargetImageIdIndex(), debounceLoading: true });
  };

  useImperativeHandle(props.handle, () => ({
    step: (images) => goTo((live.current?.viewport.getTargetImageIdIndex() ?? 0) + images),
    toEnd: (end) => goTo(end === "first" ? 0 : series.imageIds.length - 1),
    setWindow: (range) => {
      live.current?.viewport.setProperties({ voiRange: range });
      live.current?.viewport.render();
    },
    invert: () => {
      const viewport = live.current?.viewport;
      viewport?.setProperties({ invert: !viewport.getProperties().invert });
      viewport?.render();
    },
    reset: () => {
      const viewport = live.current?.viewport;
      viewport?.resetCamera();
      viewport?.setProperties({ invert: false });
      viewport?.render();
    },
    show: (finding, close) => void showFinding(finding, close),
    removeMeasurements: () => {
      removeAllMeasurements();
      live.current?.viewport.render();
    },
    measurement: () => {
      const last = lastDrawing(series.images, series.seriesUid);
      if (last === null) return "none";
      last.remove();
      live.current?.viewport.render();
      return last.finding;
    },
    place: () => {
      const image = series.images[index];
      return image === undefined ? null : centreOf(image);
    },
  }));

  async function showFinding(finding: Finding, close: boolean): Promise<void> {
    const viewport = live.current?.viewport;
    const at = imageForFinding(series.images, finding);
    if (viewport === undefined || at === null || live.current?.ready !== true) return;
    await viewport.setImageIdIndex(at);
    if (live.current?.viewport !== viewport) return;
    if (close && finding.region !== null) frame(viewport, series.images[at]!, finding.region.centre_mm, radiusMm(finding));
    else viewport.resetCamera();
    viewport.render();
  }

  const image = series.images[index];
  const viewport = live.current?.viewport;
  const marks = useMemo(
    () => (centre: Types.IStackViewport) =>
      marksOf(
        centre, findings,
        (c) => c.image.sop_instance_uid === image?.sopInstanceUid && c.image.frame === image.frame,
        false, (image?.thicknessMm ?? 2) / 2,
      ),
    [findings, image],
  );
  return (
    <div className="pane">
      <div className="canvas-host" ref={element} data-testid="stack" data-ready={ready} data-index={index}
        onContextMenu={(event) => event.preventDefault()} />
      {viewport !== undefined && ready && (
        <>
          <svg className="marks" aria-hidden="true">
            {contours && <Marks marks={marks(viewport)} selectedId={selectedId} onSelect={onSelect} />}
          </svg>
          <DirectionLetters viewport={viewport} />
          <Corners corner={corner} lowerLeft={lowerLeft()} lowerRight={lowerRight(viewport)} />
        </>
      )}
      {failed !== null && (
        <div className="pane-message" role="alert">{t("viewer.frameFailed", { number: failed + 1 })}</div>
      )}
      <SliceBar count={series.imageIds.length} index={index} loaded={loaded} onGo={goTo} selectedId={selectedId}
        marks={findings.map((f) => ({ ...f, index: imageForFinding(series.images, f.finding) }))} onSelect={onSelect} />
    </div>
  );

  function lowerLeft(): string[] {
    const z = image?.position?.[2];
    return [
      z === undefined ? "" : `${t("viewer.position")} ${z.toFixed(1)} mm`,
      image?.thicknessMm ? `${t("viewer.thickness")} ${image.thicknessMm.toFixed(2)} mm` : "",
      `${t("viewer.slice")} ${index + 1} / ${series.imageIds.length}`,
    ];
  }

  function lowerRight(of: Types.IStackViewport): string[] {
    const { voiRange, invert } = of.getProperties();
    return [
      invert === true ? t("viewer.invert") : "",
      `${Math.round(of.getZoom() * 100)} %`,
      voiRange === undefined ? "" : printWindow(voiRange),
    ];
  }
}

/** Centre a place in the view with a field of about ten radii, and never so close that context is lost. */
function frame(viewport: Types.IStackViewport, image: import("./geometry").ImageFacts, centre: Point3, radius: number): void {
  const normal = normalOf(image);
  const { focalPoint, position } = viewport.getCamera();
  if (normal === null || image.position === null || !focalPoint || !position) return;
  const off = dot(subtract(centre, image.position), normal);
  const target = subtract(centre, scale(normal, off));
  const back = subtract(position as Point3, focalPoint as Point3);
  viewport.setCamera({ focalPoint: target, position: add(target, back), parallelScale: Math.max(70, radius * 7) });
}
