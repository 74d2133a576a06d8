/** Three planes through one volume with a shared place: axial, coronal, sagittal. */
import { Enums, RenderingEngine, type Types, cache, setVolumesForViewports, volumeLoader } from "@cornerstonejs/core";
import { ToolGroupManager, type Types as ToolTypes } from "@cornerstonejs/tools";
import { type ReactElement, useEffect, useImperativeHandle, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Point3 } from "../api/types";
import { chooseTool, makeToolGroup } from "./cornerstone";
import { add, centreOf, dot, radiusMm, scale, subtract } from "./geometry";
import { Corners, CrossLines, DirectionLetters, Marks, type Plane, marksOf } from "./overlay";
import type { PaneProps } from "./pane";
import { type Range, printWindow } from "./presets";

const ENGINE = "reading-mpr";
const GROUP = "mpr";
const PLANES = [
  { id: "axial", orientation: Enums.OrientationAxis.AXIAL, colour: "#e5786d" },
  { id: "coronal", orientation: Enums.OrientationAxis.CORONAL, colour: "#7fc58a" },
  { id: "sagittal", orientation: Enums.OrientationAxis.SAGITTAL, colour: "#e0c35c" },
] as const;
type PlaneId = (typeof PLANES)[number]["id"];

interface Live {
  engine: RenderingEngine;
  group: ToolTypes.IToolGroup;
  ready: boolean;
}

const viewportOf = (live: Live, id: PlaneId): Types.IVolumeViewport => live.engine.getViewport(id) as Types.IVolumeViewport;

/** Shift a plane along its normal until it passes through `point`; the pan stays. */
function passThrough(viewport: Types.IVolumeViewport, point: Point3): boolean {
  const { focalPoint, position, viewPlaneNormal } = viewport.getCamera();
  if (!focalPoint || !position || !viewPlaneNormal) return false;
  const normal = viewPlaneNormal as Point3;
  const shift = scale(normal, dot(subtract(point, focalPoint as Point3), normal));
  if (Math.hypot(...shift) < 1e-3) return false;
  viewport.setCamera({ focalPoint: add(focalPoint as Point3, shift), position: add(position as Point3, shift) });
  return true;
}

/** The volume's share of progress; loading starts here unless it is under way. */
async function openVolume(imageIds: string[], seriesUid: string, onLoaded: (count: number) => void): Promise<string> {
  const volumeId = `cornerstoneStreamingImageVolume:${seriesUid}`;
  const volume = await volumeLoader.createAndCacheVolume(volumeId, { imageIds });
  const status = (volume as { loadStatus?: { loaded: boolean } }).loadStatus;
  if (status?.loaded) onLoaded(imageIds.length);
  void volume.load((event: unknown) => onLoaded((event as { framesLoaded?: number } | null)?.framesLoaded ?? imageIds.length));
  return volumeId;
}

export function MprPane(props: PaneProps): ReactElement {
  const { series, findings, selectedId, tool, contours, corner, onSelect } = props;
  const { t } = useTranslation();
  const hosts = useRef<Partial<Record<PlaneId, HTMLDivElement | null>>>({});
  const live = useRef<Live | null>(null);
  const given = useRef(props);
  given.current = props;
  const cursor = useRef<Point3>([0, 0, 0]);
  const drawing = useRef(0);
  const [, redraw] = useState(0);
  const [loaded, setLoaded] = useState(0);
  const [ready, setReady] = useState(false);
  const [failed, setFailed] = useState(false);

  const moveTo = (point: Point3): void => {
    cursor.current = point;
    const now = live.current;
    if (now === null) return;
    for (const { id } of PLANES) if (passThrough(viewportOf(now, id), point)) viewportOf(now, id).render();
    redraw((n) => n + 1);
  };

  useEffect(() => {
    let alive = true;
    setReady(false);
    setFailed(false);
    setLoaded(0);
    const engine = new RenderingEngine(ENGINE);
    const group = makeToolGroup(GROUP);
    const now: Live = { engine, group, ready: false };
    live.current = now;
    engine.setViewports(PLANES.map(({ id, orientation }) => ({
      viewportId: id,
      type: Enums.ViewportType.ORTHOGRAPHIC,
      element: hosts.current[id]!,
      defaultOptions: { orientation, background: [0, 0, 0] },
    })));
    for (const { id } of PLANES) group.addViewport(id, ENGINE);
    chooseTool(group, given.current.tool);

    const onRendered = (): void => {
      // Three viewports draw in one frame: one redraw of the overlay is enough.
      cancelAnimationFrame(drawing.current);
      drawing.current = requestAnimationFrame(() => redraw((n) => n + 1));
    };
    const onCamera = (event: Event): void => {
      const { viewportId } = (event as CustomEvent<{ viewportId: PlaneId }>).detail;
      const { focalPoint, viewPlaneNormal } = viewportOf(now, viewportId).getCamera();
      if (!focalPoint || !viewPlaneNormal || !now.ready) return;
      const normal = viewPlaneNormal as Point3;
      const off = dot(subtract(focalPoint as Point3, cursor.current), normal);
      if (Math.abs(off) > 1e-3) cursor.current = add(cursor.current, scale(normal, off));
    };
    // Windows that Cornerstone3D sets while the volume opens are not the reader's.
    let sharing = true;
    const onVoi = (event: Event): void => {
      if (sharing) return;
      sharing = true;
      const { range, viewportId } = (event as CustomEvent<Types.EventTypes.VoiModifiedEventDetail>).detail;
      for (const { id } of PLANES) {
        if (id === viewportId) continue;
        viewportOf(now, id).setProperties({ voiRange: range });
        viewportOf(now, id).render();
      }
      given.current.onWindow(range as Range);
      sharing = false;
    };
    const elements = PLANES.map(({ id }) => hosts.current[id]!);
    for (const element of elements) {
      element.addEventListener(Enums.Events.IMAGE_RENDERED, onRendered);
      element.addEventListener(Enums.Events.CAMERA_MODIFIED, onCamera);
      element.addEventListener(Enums.Events.VOI_MODIFIED, onVoi);
    }
    const resize = new ResizeObserver(() => engine.resize(true, true));
    resize.observe(elements[0]!);

    const start = async (): Promise<void> => {
      const volumeId = await openVolume(series.imageIds, series.seriesUid, (count) => alive && setLoaded(count));
      if (!alive) return;
      await setVolumesForViewports(engine, [{ volumeId }], PLANES.map((p) => p.id));
      if (!alive) return;
      const { window, place } = given.current;
      const range = window ?? { lower: -1000, upper: 400 };
      for (const { id } of PLANES) viewportOf(now, id).setProperties({ voiRange: range });
      sharing = false;
      const middle = series.images[Math.floor(series.images.length / 2)];
      cursor.current = place ?? (middle === undefined ? null : centreOf(middle)) ?? [0, 0, 0];
      now.ready = true;
      setReady(true);
      for (const { id } of PLANES) passThrough(viewportOf(now, id), cursor.current);
      engine.render();
      given.current.onReady();
    };
    start().catch(() => alive && setFailed(true));
    return () => {
      alive = false;
      cancelAnimationFrame(drawing.current);
      resize.disconnect();
      for (const element of elements) {
        element.removeEventListener(Enums.Events.IMAGE_RENDERED, onRendered);
        element.removeEventListener(Enums.Events.CAMERA_MODIFIED, onCamera);
        element.removeEventListener(Enums.Events.VOI_MODIFIED, onVoi);
      }
      ToolGroupManager.destroyToolGroup(GROUP);
      engine.destroy();
      live.current = null;
    };
  }, [series]);

  // The volume's own bookkeeping goes with the series; its images stay in the cache for the stack.
  useEffect(() => () => {
    const volumeId = `cornerstoneStreamingImageVolume:${series.seriesUid}`;
    if (cache.getVolume(volumeId) !== undefined) cache.removeVolumeLoadObject(volumeId);
  }, [series]);

  useEffect(() => {
    if (live.current !== null) chooseTool(live.current.group, tool);
  }, [tool]);

  const each = (change: (viewport: Types.IVolumeViewport) => void): void => {
    const now = live.current;
    if (now === null || !now.ready) return;
    for (const { id } of PLANES) {
      change(viewportOf(now, id));
      viewportOf(now, id).render();
    }
  };
  const spacing = (): number => {
    const [a, b] = [series.images[0]?.position, series.images[1]?.position];
    return a && b ? Math.hypot(...subtract(a, b)) : 1;
  };

  useImperativeHandle(props.handle, () => ({
    step: (images) => moveTo(add(cursor.current, [0, 0, -images * spacing()])),
    toEnd: (end) => {
      const image = series.images[end === "first" ? 0 : series.images.length - 1];
      if (image?.position) moveTo([cursor.current[0], cursor.current[1], image.position[2]]);
    },
    setWindow: (range) => each((viewport) => viewport.setProperties({ voiRange: range })),
    invert: () => each((viewport) => viewport.setProperties({ invert: viewport.getProperties()?.invert !== true })),
    reset: () => {
      each((viewport) => viewport.resetCamera());
      moveTo(cursor.current);
    },
    show: (finding, close) => {
      const centre = finding.region?.centre_mm;
      if (centre === undefined) return;
      each((viewport) => {
        if (!close) viewport.resetCamera();
        const { focalPoint, position } = viewport.getCamera();
        if (!close || !focalPoint || !position) return;
        const back = subtract(position as Point3, focalPoint as Point3);
        viewport.setCamera({ focalPoint: centre, position: add(centre, back), parallelScale: Math.max(45, radiusMm(finding) * 7) });
      });
      moveTo(centre);
    },
    removeMeasurements: () => undefined,
    measurement: () => "wrong-layout",
    place: () => cursor.current,
  }));

  const normals = (): (Plane & { id: PlaneId })[] => {
    const now = live.current;
    if (now === null || !ready) return [];
    return PLANES.map(({ id, colour }) => ({
      id, colour, normal: (viewportOf(now, id).getCamera().viewPlaneNormal ?? [0, 0, 1]) as Point3,
    }));
  };
  const planes = normals();

  const point = (id: PlaneId) => (event: React.MouseEvent<HTMLDivElement>): void => {
    const now = live.current;
    if (now === null || !ready || tool !== "crosshair" || (event.buttons & 1) === 0) return;
    const box = event.currentTarget.getBoundingClientRect();
    const [x, y, z] = viewportOf(now, id).canvasToWorld([event.clientX - box.left, event.clientY - box.top]);
    moveTo([x, y, z]);
  };

  return (
    <div className="mpr" data-testid="mpr" data-ready={ready} data-loaded={loaded}>
      {PLANES.map(({ id, colour }) => {
        const viewport = live.current !== null && ready ? viewportOf(live.current, id) : null;
        const box = hosts.current[id];
        const marks = viewport === null ? [] : marksOf(
          viewport, findings,
          (contour) => id === "axial" && Math.abs((contour.points_mm[0]?.[2] ?? Infinity) - cursor.current[2]) <= spacing() / 2,
          true, 0.5,
        );
        return (
          <div key={id} className={`pane mpr-${id}`} style={{ ["--plane" as string]: colour }}>
            <div className="canvas-host" ref={(host) => { hosts.current[id] = host; }} data-plane={id}
              style={tool === "crosshair" ? { cursor: "crosshair" } : undefined}
              onMouseDown={point(id)} onMouseMove={point(id)} onContextMenu={(event) => event.preventDefault()} />
            {viewport !== null && (
              <>
                <svg className="marks" aria-hidden="true">
                  <CrossLines viewport={viewport} cursor={cursor.current} others={planes.filter((p) => p.id !== id)}
                    width={box?.clientWidth ?? 0} height={box?.clientHeight ?? 0} />
                  {contours && <Marks marks={marks} selectedId={selectedId} onSelect={onSelect} />}
                </svg>
                <DirectionLetters viewport={viewport} />
                <Corners corner={id === "axial" ? corner : { left: [], right: [] }}
                  lowerLeft={[t(`viewer.${id}`)]} lowerRight={id === "axial" ? lowerRight(viewport) : []} />
              </>
            )}
          </div>
        );
      })}
      {!failed && loaded < series.imageIds.length && (
        <div className="pane-note" role="status">{t("viewer.streaming", { loaded, total: series.imageIds.length })}</div>
      )}
      {failed && <div className="pane-message" role="alert">{t("viewer.failed")}</div>}
    </div>
  );

  function lowerRight(viewport: Types.IVolumeViewport): string[] {
    const voiRange = viewport.getProperties()?.voiRange;
    return [
      `${Math.round(viewport.getZoom() * 100)} %`,
      voiRange === undefined ? "" : printWindow(voiRange),
    ];
  }
}
