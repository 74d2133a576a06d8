/** What the viewer asks of a layout, whichever is shown. */
import type { Finding, NewFinding, Point3 } from "../api/types";
import type { Range } from "./presets";

export interface PaneHandle {
  step(images: number): void;
  toEnd(end: "first" | "last"): void;
  setWindow(range: Range): void;
  invert(): void;
  reset(): void;
  /** Bring a finding into view; `close` zooms to it, otherwise the whole image stays. */
  show(finding: Finding, close: boolean): void;
  removeMeasurements(): void;
  /** The last axes drawn on an original image. "wrong-layout" where measurements have no image of their own. */
  measurement(): NewFinding | "none" | "wrong-layout";
  /** The point looked at, to keep the place when the layout changes. */
  place(): Point3 | null;
}

export interface PaneProps {
  handle: React.RefObject<PaneHandle | null>;
  series: import("./series").ImageSeries;
  findings: readonly NumberedFinding[];
  selectedId: string | null;
  tool: import("./cornerstone").ToolChoice;
  contours: boolean;
  window: Range | null;
  place: Point3 | null;
  corner: CornerText;
  onWindow(range: Range): void;
  onSelect(findingId: string): void;
  onReady(): void;
}

export interface NumberedFinding {
  number: number;
  finding: Finding;
}

/** Lines in the upper corners of the images; each is shown as text, never as markup. */
export interface CornerText {
  left: string[];
  right: string[];
}
