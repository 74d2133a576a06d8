/** What lies over the pixels: contours, rings, cross lines, direction letters and corner texts. */
import type { Types } from "@cornerstonejs/core";
import type { MouseEvent, ReactElement } from "react";
import type { Contour, FindingState, Point3 } from "../api/types";
import { cross, directionLetters, dot, meetingDirection, radiusMm, scale, subtract, add } from "./geometry";
import type { CornerText, NumberedFinding } from "./pane";

/** The parts of a Cornerstone3D viewport that drawing needs; stack and volume viewports both have them. */
export type Projector = Pick<Types.IViewport, "worldToCanvas" | "getCamera">;

const COLOUR: Record<FindingState, string> = {
  proposed: "var(--proposed)",
  accepted: "var(--accepted)",
  edited: "var(--edited)",
  rejected: "var(--rejected)",
};

interface Mark {
  item: NumberedFinding;
  outlines: string[];
  ring: { x: number; y: number; r: number } | null;
  label: { x: number; y: number } | null;
}

const toCanvas = (viewport: Projector, point: Point3): [number, number] => {
  const [x, y] = viewport.worldToCanvas(point as Types.Point3);
  return [x, y];
};

function outline(viewport: Projector, points: readonly Point3[]): { path: string; right: number; top: number } {
  let right = -Infinity;
  let top = Infinity;
  const corners = points.map((point) => {
    const [x, y] = toCanvas(viewport, point);
    right = Math.max(right, x);
    top = Math.min(top, y);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  return { path: `M${corners.join("L")}Z`, right, top };
}

/** The circle in which a ball of the finding's size meets the plane of this view; null when it does not. */
function ringOf(viewport: Projector, item: NumberedFinding, slackMm: number): Mark["ring"] {
  const { viewPlaneNormal, focalPoint, viewUp } = viewport.getCamera();
  const region = item.finding.region;
  if (!viewPlaneNormal || !focalPoint || !viewUp || region === null) return null;
  const normal = viewPlaneNormal as Point3;
  const off = dot(subtract(region.centre_mm, focalPoint as Point3), normal);
  const radius = radiusMm(item.finding) + 1.5;
  if (Math.abs(off) > radius + slackMm) return null;
  const centre = subtract(region.centre_mm, scale(normal, off));
  const inPlane = Math.sqrt(Math.max(radius * radius - off * off, (radius * 0.5) ** 2));
  const [x, y] = toCanvas(viewport, centre);
  const [ex, ey] = toCanvas(viewport, add(centre, scale(viewUp as Point3, inPlane)));
  return { x, y, r: Math.max(6, Math.hypot(ex - x, ey - y)) };
}

export function marksOf(
  viewport: Projector,
  findings: readonly NumberedFinding[],
  contoursHere: (contour: Contour) => boolean,
  ringAlways: boolean,
  slackMm: number,
): Mark[] {
  const marks: Mark[] = [];
  for (const item of findings) {
    const here = item.finding.region?.contours.filter(contoursHere) ?? [];
    const drawn = here.map((contour) => outline(viewport, contour.points_mm));
    const hasContours = (item.finding.region?.contours.length ?? 0) > 0;
    const ring = drawn.length === 0 && (ringAlways || !hasContours) ? ringOf(viewport, item, slackMm) : null;
    if (drawn.length === 0 && ring === null) continue;
    const label = drawn[0] !== undefined
      ? { x: drawn[0].right + 5, y: drawn[0].top - 3 }
      : ring !== null ? { x: ring.x + ring.r * 0.71 + 4, y: ring.y - ring.r * 0.71 - 3 } : null;
    marks.push({ item, outlines: drawn.map((d) => d.path), ring, label });
  }
  return marks;
}

export function Marks({ marks, selectedId, onSelect }: {
  marks: readonly Mark[];
  selectedId: string | null;
  onSelect: (findingId: string) => void;
}): ReactElement {
  return (
    <>
      {marks.map(({ item, outlines, ring, label }) => {
        const { id, state } = item.finding;
        const selected = id === selectedId;
        const pick = (event: MouseEvent): void => {
          event.stopPropagation();
          onSelect(id);
        };
        return (
          <g key={id} data-mark={id} data-selected={selected} stroke={COLOUR[state]} fill="none"
            strokeWidth={selected ? 1.8 : 1.1} opacity={state === "rejected" ? 0.55 : selected ? 1 : 0.8}
            strokeDasharray={state === "rejected" ? "3 3" : undefined}>
            {outlines.map((path, i) => <path key={i} d={path} strokeLinejoin="round" />)}
            {ring !== null && <circle cx={ring.x} cy={ring.y} r={ring.r} />}
            {label !== null && (
              <text x={label.x} y={label.y} className="mark-label" fill={COLOUR[state]} onClick={pick}
                fontWeight={selected ? 700 : 500}>
                {item.number}
              </text>
            )}
          </g>
        );
      })}
    </>
  );
}

export interface Plane {
  normal: Point3;
  colour: string;
}

/** Lines where the other planes through `cursor` cut this view, with a gap around the place itself. */
export function CrossLines({ viewport, cursor, others, width, height }: {
  viewport: Projector;
  cursor: Point3;
  others: readonly Plane[];
  width: number;
  height: number;
}): ReactElement {
  const normal = viewport.getCamera().viewPlaneNormal as Point3 | undefined;
  if (normal === undefined) return <g />;
  const [x, y] = toCanvas(viewport, cursor);
  const far = width + height;
  return (
    <g strokeWidth={1} opacity={0.65}>
      {others.map(({ normal: other, colour }) => {
        const along = meetingDirection(normal, other);
        if (along === null) return null;
        const [ax, ay] = toCanvas(viewport, add(cursor, along));
        const length = Math.hypot(ax - x, ay - y) || 1;
        const dx = (ax - x) / length;
        const dy = (ay - y) / length;
        return [1, -1].map((side) => (
          <line key={`${colour}${side}`} stroke={colour} x1={x + side * dx * 16} y1={y + side * dy * 16}
            x2={x + side * dx * far} y2={y + side * dy * far} />
        ));
      })}
    </g>
  );
}

export function DirectionLetters({ viewport }: { viewport: Projector }): ReactElement | null {
  const { viewUp, viewPlaneNormal } = viewport.getCamera();
  if (!viewUp || !viewPlaneNormal) return null;
  const up = viewUp as Point3;
  const right = cross(up, viewPlaneNormal as Point3);
  const at: [string, Point3][] = [
    ["top", up], ["bottom", scale(up, -1)], ["right", right], ["left", scale(right, -1)],
  ];
  return (
    <>
      {at.map(([edge, direction]) => (
        <span key={edge} className={`direction ${edge}`} aria-hidden="true">{directionLetters(direction)}</span>
      ))}
    </>
  );
}

export function Corners({ corner, lowerLeft, lowerRight }: {
  corner: CornerText;
  lowerLeft: string[];
  lowerRight: string[];
}): ReactElement {
  const block = (name: string, lines: string[]): ReactElement => (
    <div className={`corner ${name}`}>
      {lines.filter((line) => line !== "").map((line, i) => <div key={i}>{line}</div>)}
    </div>
  );
  return (
    <>
      {block("tl", corner.left)}
      {block("tr", corner.right)}
      {block("bl", lowerLeft)}
      {block("br", lowerRight)}
    </>
  );
}
