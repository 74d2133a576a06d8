import { describe, expect, it } from "vitest";
import { type EditFields, editOf, parseLength } from "./editRules";

const before: EditFields = { long: "9.2", short: "7.1", type: "solid", note: "" };

describe("editOf", () => {
  it("sends only what was changed", () => {
    expect(editOf(before, { ...before, long: "10,5" })).toEqual({ long_axis_mm: 10.5 });
    expect(editOf(before, { ...before, type: "part-solid", note: " near fissure " })).toEqual({
      attenuation: "part-solid", note: "near fissure",
    });
  });

  it("refuses what is no change, no length or upside down", () => {
    expect(editOf(before, before)).toBe("unchanged");
    expect(editOf(before, { ...before, long: "" })).toBe("badNumber");
    expect(editOf(before, { ...before, long: "9 cm" })).toBe("badNumber");
    expect(editOf(before, { ...before, short: "9.3" })).toBe("shortOverLong");
  });

  it("knows lengths", () => {
    expect(parseLength("0.5")).toBe(0.5);
    for (const odd of ["0", "-3", "501", "1e9", "NaN", "Infinity", " "]) expect(parseLength(odd)).toBeNaN();
  });
});
