import { describe, expect, it } from "vitest";
import type { Finding, Point3 } from "../api/types";
import {
  type ImageFacts, areaMm2, centreOf, directionLetters, imageForFinding, inReadingOrder, isVolume, mainContour,
  meetingDirection, nearestImage, radiusMm,
} from "./geometry";

const axial = (z: number, over: Partial<ImageFacts> = {}): ImageFacts => ({
  imageId: `id:${z}`, sopInstanceUid: `1.${Math.abs(z)}`, sopClassUid: "ct", frame: 1, rows: 100, columns: 200,
  position: [-50, -60, z], orientation: [[1, 0, 0], [0, 1, 0]], spacing: [0.5, 0.5], thicknessMm: 2, instanceNumber: null,
  ...over,
});
const stack = [-10, -8, -6, -4, -2, 0].map((z) => axial(z));

const square = (z: number, side: number): Point3[] => [[0, 0, z], [side, 0, z], [side, side, z], [0, side, z]];
const finding = (over: Partial<NonNullable<Finding["region"]>> | null): Finding => ({
  id: "f", study_instance_uid: "1", code: { system: "", code: "", display: "" },
  source: { kind: "agent", id: "chest_ct", version: "1" }, state: "proposed", body_site: null, laterality: null,
  region: over === null ? null : {
    frame_of_reference_uid: "1.2", centre_mm: [0, 0, -4.4], bounds_mm: null, contours: [], mask: "", segment: 0, ...over,
  },
  measurements: [], attributes: [], confidence: 0.5, limits: [],
  evidence: { images: [], rules: [], prior_finding_ids: [] }, note: "",
});

describe("reading order", () => {
  it("goes from head to feet whatever the sending order or the normal's sign", () => {
    const shuffled = [stack[3]!, stack[0]!, stack[5]!, stack[1]!, stack[4]!, stack[2]!];
    expect(inReadingOrder(shuffled).map((i) => i.position![2])).toEqual([0, -2, -4, -6, -8, -10]);
    const flipped = shuffled.map((i) => ({ ...i, orientation: [[1, 0, 0], [0, -1, 0]] as [Point3, Point3] }));
    expect(inReadingOrder(flipped).map((i) => i.position![2])).toEqual([0, -2, -4, -6, -8, -10]);
  });

  it("falls back to instance numbers without places in space", () => {
    const images = [3, 1, 2].map((n) => axial(n, { position: null, instanceNumber: n }));
    expect(inReadingOrder(images).map((i) => i.instanceNumber)).toEqual([1, 2, 3]);
  });
});

describe("isVolume", () => {
  it("takes an even stack and refuses gaps, doubles, few and unequal images", () => {
    expect(isVolume(stack)).toBe(true);
    expect(isVolume(stack.filter((i) => i.position![2] !== -4))).toBe(false);
    expect(isVolume([...stack, axial(0)])).toBe(false);
    expect(isVolume(stack.slice(0, 4))).toBe(false);
    expect(isVolume([...stack.slice(0, 5), axial(0, { rows: 64 })])).toBe(false);
    expect(isVolume([])).toBe(false);
  });
});

describe("findings in images", () => {
  it("finds the nearest plane and its distance", () => {
    expect(nearestImage(stack, [3, 3, -4.4])).toEqual({ index: 3, distanceMm: expect.closeTo(0.4) as number });
    expect(nearestImage([axial(0, { position: null })], [0, 0, 0])).toBeNull();
  });

  it("shows a finding on the image of its largest contour", () => {
    const image = (uid: string) => ({ series_instance_uid: "s", sop_class_uid: "c", sop_instance_uid: uid, frame: 1 });
    const contours = [
      { image: image("1.6"), points_mm: square(-6, 3) },
      { image: image("1.8"), points_mm: square(-8, 5) },
    ];
    expect(areaMm2(square(-8, 5))).toBeCloseTo(25);
    expect(mainContour(contours)).toBe(contours[1]);
    expect(imageForFinding(stack, finding({ contours }))).toBe(1);
  });

  it("falls back to its centre, and to nothing when it lies elsewhere", () => {
    expect(imageForFinding(stack, finding({}))).toBe(3);
    expect(imageForFinding(stack, finding({ centre_mm: [0, 0, 500] }))).toBeNull();
    expect(imageForFinding(stack, finding(null))).toBeNull();
  });

  it("takes the radius from the long axis or the bounds", () => {
    expect(radiusMm(finding(null))).toBe(5);
    expect(radiusMm(finding({ bounds_mm: [[0, 0, 0], [12, 12, 12]] }))).toBeCloseTo(6);
  });
});

describe("views", () => {
  it("names directions", () => {
    expect(directionLetters([1, 0, 0])).toBe("L");
    expect(directionLetters([0, -1, 0])).toBe("A");
    expect(directionLetters([0, 0.6, 0.8])).toBe("HP");
  });

  it("finds an image's centre and the line where planes meet", () => {
    expect(centreOf(axial(-4))).toEqual([-50 + 0.5 * 199 / 2, -60 + 0.5 * 99 / 2, -4]);
    expect(meetingDirection([0, 0, 1], [0, 1, 0])).toEqual([-1, 0, 0]);
    expect(meetingDirection([0, 0, 1], [0, 0, -1])).toBeNull();
  });
});
