import { describe, expect, it, vi } from "vitest";
import type { Point3 } from "../api/types";
import type { ImageFacts } from "./geometry";

// The drawing itself belongs to the browser; here only what is made of its points.
vi.mock("@cornerstonejs/tools", () => ({ annotation: { state: {} } }));
vi.mock("./cornerstone", () => ({ BIDIRECTIONAL: "Bidirectional", LENGTH: "Length" }));
const { axesOf, findingFrom } = await import("./measurements");

const image: ImageFacts = {
  imageId: "id", sopInstanceUid: "1.2.3", sopClassUid: "1.2.840.10008.5.1.4.1.1.2", frame: 1, rows: 8, columns: 8,
  position: [0, 0, 0], orientation: [[1, 0, 0], [0, 1, 0]], spacing: [1, 1], thicknessMm: 1, instanceNumber: 1,
};
const drawn: Point3[] = [[0, 0, 0], [4, 0, 0], [0, 0, 0], [0, 9, 0]];

describe("a reader's own finding", () => {
  it("takes the longer axis as the long one, however it was drawn", () => {
    expect(axesOf(drawn)[0]).toEqual([[0, 0, 0], [0, 9, 0]]);
    const made = findingFrom(drawn, image, "1.9");
    expect(made?.long_axis.points_mm).toEqual([[0, 0, 0], [0, 9, 0]]);
    expect(made?.short_axis?.points_mm).toEqual([[0, 0, 0], [4, 0, 0]]);
    expect(made?.long_axis.image).toEqual({
      series_instance_uid: "1.9", sop_class_uid: image.sopClassUid, sop_instance_uid: "1.2.3", frame: 1,
    });
  });

  it("makes do with one line and refuses a slip of the hand", () => {
    expect(findingFrom(drawn.slice(0, 2), image, "1.9")).not.toHaveProperty("short_axis");
    expect(findingFrom([[0, 0, 0], [0.2, 0, 0]], image, "1.9")).toBeNull();
    expect(findingFrom([], image, "1.9")).toBeNull();
  });
});
