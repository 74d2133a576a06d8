import { describe, expect, it } from "vitest";
import { shade } from "./shade";

const at = (picture: Uint8ClampedArray, side: number, x: number, y: number): number => picture[(y * side + x) * 4]!;

describe("shade", () => {
  it("windows, clamps and inverts", () => {
    const image = { columns: 2, rows: 2, data: [-1000, 0, 100, 4000], lower: 0, upper: 200, inverted: false, aspect: 1 };
    const picture = shade(image, 2);
    expect([at(picture, 2, 0, 0), at(picture, 2, 1, 0), at(picture, 2, 0, 1), at(picture, 2, 1, 1)]).toEqual([0, 0, 128, 255]);
    expect(at(shade({ ...image, inverted: true }, 2), 2, 1, 1)).toBe(0);
  });

  it("keeps proportions, black beside", () => {
    const wide = { columns: 4, rows: 2, data: new Array(8).fill(100), lower: 0, upper: 100, inverted: false, aspect: 1 };
    const picture = shade(wide, 4);
    expect(at(picture, 4, 0, 0)).toBe(0);
    expect(at(picture, 4, 0, 1)).toBe(255);
    expect(at(picture, 4, 3, 2)).toBe(255);
    expect(at(picture, 4, 3, 3)).toBe(0);
    expect(at(shade({ ...wide, aspect: 2 }, 4), 4, 0, 0)).toBe(255);
  });

  it("shows colour", () => {
    const picture = shade({ columns: 1, rows: 1, data: [10, 20, 30], lower: 0, upper: 1, inverted: false, aspect: 1 }, 1);
    expect([...picture]).toEqual([10, 20, 30, 255]);
  });
});
