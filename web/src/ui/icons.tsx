/** Line icons, 16 x 16, drawn for this page. Decorative: the control that holds one carries the words. */
import type { ReactElement } from "react";

const PATHS = {
  window: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 0v12M8 4.5h4.6M8 8h6M8 11.5h4.6",
  pan: "M8 1.8v12.4M1.8 8h12.4M6.2 3.6 8 1.8l1.8 1.8M6.2 12.4 8 14.2l1.8-1.8M3.6 6.2 1.8 8l1.8 1.8M12.4 6.2 14.2 8l-1.8 1.8",
  zoom: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Zm3.3 7.8 3.4 3.4M5 7h4M7 5v4",
  crosshair: "M8 1.5v4.2M8 10.3v4.2M1.5 8h4.2M10.3 8h4.2M8 7.6v.8",
  length: "M2.5 13.5l11-11M1.6 11.7l2.7 2.7M11.7 1.6l2.7 2.7",
  bidirectional: "M2.5 12.5l11-9M5 4.5l6 7.5",
  probe: "M8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6ZM8 1.8v2M8 12.2v2M1.8 8h2M12.2 8h2",
  invert: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 0v12M8.8 3.4v9.2M10.2 4v8M11.6 5.2v5.6",
  reset: "M3 8a5 5 0 1 0 1.6-3.7M2.6 2.4v3h3",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10M8 6.6a1.4 1.4 0 1 0 0 2.8 1.4 1.4 0 0 0 0-2.8Z",
  contours: "M8 3c3.4 0 5.5 2 5.5 4.6S11.2 13 7.7 13 2.5 10.6 2.5 8 4.6 3 8 3Zm-.3 3c1.7 0 2.6.8 2.6 1.9S9.3 10 7.8 10",
  trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9M6.8 7v4M9.2 7v4",
  stack: "M2.5 2.5h11v11h-11z",
  mpr: "M2.5 2.5h11v11h-11zM8 2.5v11M2.5 8h11",
  check: "M3 8.5l3.3 3.3L13 4.8",
  cross: "M4 4l8 8M12 4l-8 8",
  pencil: "M3 13l.7-3 7.3-7.3 2.3 2.3L6 12.3 3 13Z",
  undo: "M5.5 3 2.5 6l3 3M2.5 6h6.3a4 4 0 0 1 0 8H6",
  warning: "M8 2.5 14.2 13.3H1.8L8 2.5Zm0 4v3.2M8 11.4v.3",
  download: "M8 2.5v8M4.8 7.5 8 10.7l3.2-3.2M2.8 13.5h10.4",
  document: "M4 1.8h5l3 3v9.4H4zM9 1.8v3h3M6 8h4M6 10.5h4",
  layers: "M8 2 14 5.2 8 8.4 2 5.2ZM2 8.2l6 3.2 6-3.2M2 11l6 3.2L14 11",
  star: "M8 2.2l1.8 3.7 4 .6-2.9 2.8.7 4L8 11.4l-3.6 1.9.7-4L2.2 6.5l4-.6Z",
  plus: "M8 3v10M3 8h10",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Zm3.3 7.8 3.4 3.4",
  back: "M9.5 3 4.5 8l5 5",
  list: "M5.5 4h8M5.5 8h8M5.5 12h8M2.5 4h.4M2.5 8h.4M2.5 12h.4",
  pen: "M2.5 13.5c2-3 3-3 4-1.5s2 1.5 3-.5 2-2 4 0M9 8l4-4-1.5-1.5-4 4L7 8.5Z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }): ReactElement {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth={1.35}
      strokeLinecap="round" strokeLinejoin="round" aria-hidden="true" style={{ flex: "none", display: "block" }}>
      <path d={PATHS[name]} />
    </svg>
  );
}
