import { describe, expect, it } from "vitest";
import { en } from "../i18n/en";
import { BINDINGS, type Scope, type Stroke, actionFor, hint, printedStroke } from "./keys";

const stroke = (key: string, held: Partial<Stroke> = {}): Stroke => ({
  key, ctrlKey: false, metaKey: false, altKey: false, ...held,
});

describe("key table", () => {
  it.each<Scope>(["worklist", "study"])("gives each stroke one meaning on the %s", (scope) => {
    const strokes = BINDINGS.filter((b) => b.scopes.includes(scope)).flatMap((b) => b.keys);
    expect(new Set(strokes).size).toBe(strokes.length);
  });

  it("names every action in the help", () => {
    for (const { action } of BINDINGS) expect(en.keys).toHaveProperty(action);
  });

  it("takes letters in either case and leaves Alt to the browser", () => {
    expect(actionFor(stroke("a"), "study")).toBe("accept");
    expect(actionFor(stroke("A"), "study")).toBe("accept");
    expect(actionFor(stroke("a", { altKey: true }), "study")).toBeNull();
    expect(actionFor(stroke("a"), "worklist")).toBeNull();
  });

  it("does not take Ctrl+R, which reloads, for reject", () => {
    expect(actionFor(stroke("r", { ctrlKey: true }), "study")).toBeNull();
    expect(actionFor(stroke("Enter", { ctrlKey: true }), "study")).toBe("sign");
    expect(actionFor(stroke("Enter", { metaKey: true }), "study")).toBe("sign");
  });

  it("tells arrows apart by page", () => {
    expect(actionFor(stroke("ArrowDown"), "worklist")).toBe("rowDown");
    expect(actionFor(stroke("ArrowDown"), "study")).toBe("nextFinding");
  });

  it("prints strokes", () => {
    expect(printedStroke("Ctrl+Enter")).toEqual(["Ctrl", "Enter"]);
    expect(hint("nextSlice")).toBe("PgDn");
    expect(hint("toolBidirectional")).toBe("B");
  });
});
