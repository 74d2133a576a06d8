/** The keyboard as data: one table that the pages obey and the help overlay prints. */
import { useEffect, useRef } from "react";

export type Scope = "worklist" | "study";

export type Action =
  | "rowDown" | "rowUp" | "rowOpen" | "search"
  | "nextFinding" | "previousFinding" | "accept" | "reject" | "edit" | "reopen" | "measureToFinding"
  | "presetLung" | "presetMediastinum" | "presetBone" | "presetSoft" | "presetBrain"
  | "nextSlice" | "previousSlice" | "firstSlice" | "lastSlice" | "layout"
  | "toolWindow" | "toolPan" | "toolZoom" | "toolLength" | "toolBidirectional" | "toolProbe" | "toolCrosshair"
  | "removeMeasurements" | "invert" | "reset" | "fit" | "contours"
  | "sign" | "worklist" | "language" | "help";

export type KeyGroup = "findings" | "viewer" | "report" | "page" | "worklist";

export interface Binding {
  action: Action;
  /** `KeyboardEvent.key`, letters in lower case, after `Ctrl+` where it is held. */
  keys: readonly string[];
  group: KeyGroup;
  scopes: readonly Scope[];
}

const STUDY: readonly Scope[] = ["study"];
const LIST: readonly Scope[] = ["worklist"];
const BOTH: readonly Scope[] = ["worklist", "study"];

const bind = (group: KeyGroup, scopes: readonly Scope[], action: Action, ...keys: string[]): Binding => ({
  action, keys, group, scopes,
});

export const BINDINGS: readonly Binding[] = [
  bind("worklist", LIST, "rowDown", "j", "ArrowDown"),
  bind("worklist", LIST, "rowUp", "k", "ArrowUp"),
  bind("worklist", LIST, "rowOpen", "Enter"),
  bind("worklist", LIST, "search", "/"),
  bind("findings", STUDY, "nextFinding", "n", "ArrowDown"),
  bind("findings", STUDY, "previousFinding", "p", "ArrowUp"),
  bind("findings", STUDY, "accept", "a"),
  bind("findings", STUDY, "reject", "r"),
  bind("findings", STUDY, "edit", "e"),
  bind("findings", STUDY, "reopen", "u"),
  bind("findings", STUDY, "measureToFinding", "m"),
  bind("viewer", STUDY, "presetLung", "1"),
  bind("viewer", STUDY, "presetMediastinum", "2"),
  bind("viewer", STUDY, "presetBone", "3"),
  bind("viewer", STUDY, "presetSoft", "4"),
  bind("viewer", STUDY, "presetBrain", "5"),
  bind("viewer", STUDY, "nextSlice", "PageDown", "ArrowRight"),
  bind("viewer", STUDY, "previousSlice", "PageUp", "ArrowLeft"),
  bind("viewer", STUDY, "firstSlice", "Home"),
  bind("viewer", STUDY, "lastSlice", "End"),
  bind("viewer", STUDY, "layout", "v"),
  bind("viewer", STUDY, "toolWindow", "w"),
  bind("viewer", STUDY, "toolPan", "g"),
  bind("viewer", STUDY, "toolZoom", "s"),
  bind("viewer", STUDY, "toolLength", "l"),
  bind("viewer", STUDY, "toolBidirectional", "b"),
  bind("viewer", STUDY, "toolProbe", "o"),
  bind("viewer", STUDY, "toolCrosshair", "x"),
  bind("viewer", STUDY, "removeMeasurements", "Delete", "Backspace"),
  bind("viewer", STUDY, "invert", "i"),
  bind("viewer", STUDY, "reset", "0"),
  bind("viewer", STUDY, "fit", "z"),
  bind("viewer", STUDY, "contours", "h"),
  bind("report", STUDY, "sign", "Ctrl+Enter"),
  bind("page", STUDY, "worklist", "q"),
  bind("page", BOTH, "language", "t"),
  bind("page", BOTH, "help", "?"),
];

/** The part of a KeyboardEvent that decides. */
export interface Stroke {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
}

/** How the table writes a stroke; null for strokes that belong to the browser. */
export function strokeName(stroke: Stroke): string | null {
  if (stroke.altKey) return null;
  const key = stroke.key.length === 1 ? stroke.key.toLowerCase() : stroke.key;
  return stroke.ctrlKey || stroke.metaKey ? `Ctrl+${key}` : key;
}

export function actionFor(stroke: Stroke, scope: Scope): Action | null {
  const name = strokeName(stroke);
  if (name === null) return null;
  return BINDINGS.find((b) => b.scopes.includes(scope) && b.keys.includes(name))?.action ?? null;
}

const TYPING = "input, textarea, select, [contenteditable=true]";
/** Where Enter and Space belong to the control that has the focus. */
const PRESSABLE = "button, a[href], [role=button], [role=tab], [role=switch]";

function belongsToControl(event: KeyboardEvent): boolean {
  const target = event.target;
  if (!(target instanceof Element)) return false;
  if (target.closest(TYPING) && !(target instanceof HTMLInputElement && ["checkbox", "radio"].includes(target.type))) return true;
  return (event.key === "Enter" || event.key === " ") && !event.ctrlKey && !event.metaKey && target.closest(PRESSABLE) !== null;
}

export type Handlers = Partial<Record<Action, () => void>>;

/** Whether a part of the page has taken this stroke for itself: it lists its keys in `data-owns-keys`. */
function isTaken(event: KeyboardEvent): boolean {
  if (document.querySelector("[role=dialog]") !== null) return true;
  const owner = document.querySelector<HTMLElement>("[data-owns-keys]");
  return owner?.dataset.ownsKeys?.split(" ").includes(event.key) ?? false;
}

/** Obey the table while the component is shown; not while somebody types or a dialog is open. */
export function useKeys(scope: Scope, handlers: Handlers, enabled = true): void {
  const current = useRef(handlers);
  current.current = handlers;
  useEffect(() => {
    if (!enabled) return undefined;
    const listen = (event: KeyboardEvent): void => {
      if (belongsToControl(event) || isTaken(event)) return;
      const action = actionFor(event, scope);
      const handler = action === null ? undefined : current.current[action];
      if (handler === undefined) return;
      event.preventDefault();
      handler();
    };
    // On the way down: Cornerstone3D swallows every key once an image has the focus.
    window.addEventListener("keydown", listen, { capture: true });
    return () => window.removeEventListener("keydown", listen, { capture: true });
  }, [scope, enabled]);
}

const PRINTED: Record<string, string> = {
  ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", PageDown: "PgDn", PageUp: "PgUp", Delete: "Del",
};

/** "Ctrl+Enter" -> ["Ctrl", "Enter"], letters as they stand on the keyboard. */
export function printedStroke(name: string): string[] {
  return name.split("+").map((part) => PRINTED[part] ?? (part.length === 1 ? part.toUpperCase() : part));
}

/** The first stroke of an action, for tooltips: "B". */
export function hint(action: Action): string {
  const binding = BINDINGS.find((b) => b.action === action);
  return binding?.keys[0] === undefined ? "" : printedStroke(binding.keys[0]).join(" ");
}
