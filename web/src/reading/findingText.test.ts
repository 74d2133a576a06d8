import { describe, expect, it } from "vitest";
import type { Finding, FindingView, Report } from "../api/types";
import { attenuationOf, chipsOf, countByState, neighbour, nextUndecided, obstacle, sideOf, sizeOf, percentOf } from "./findingText";

const code = (value: string) => ({ system: "x", code: value, display: value });
const view = (id: string, state: Finding["state"] = "proposed", over: Partial<Finding> = {}): FindingView => ({
  version: 0, title: id, limits: [], decided_by: null, decided_at: null, reason: "",
  finding: {
    id, study_instance_uid: "1", code: code("427359005"), source: { kind: "agent", id: "chest_ct", version: "1" }, state,
    body_site: null, laterality: null, region: null, measurements: [], attributes: [], confidence: null, limits: [],
    evidence: { images: [], rules: [], prior_finding_ids: [] }, note: "", ...over,
  },
});
const list = [view("a", "accepted"), view("b"), view("c", "rejected"), view("d")];
const report = (over: Partial<Report> = {}): Report => ({
  state: "draft", revision: 1, language: "en", undecided: 0, sections: [], signature: null, translation_of: null, content_sha256: "x", ...over,
});

describe("report chips", () => {
  it("number findings as the list does, each once, and leave out what is gone", () => {
    expect(chipsOf(["d", "a", "d", "gone"], list)).toEqual([
      { findingId: "d", number: 4 }, { findingId: "a", number: 1 },
    ]);
    expect(chipsOf([], list)).toEqual([]);
  });
});

describe("moving through the findings", () => {
  it("goes to the next undecided one, around the end, never to itself", () => {
    expect(nextUndecided(list, "a")).toBe("b");
    expect(nextUndecided(list, "b")).toBe("d");
    expect(nextUndecided(list, "d")).toBe("b");
    expect(nextUndecided([view("a", "accepted"), view("b")], "b")).toBeNull();
    expect(nextUndecided(list, null)).toBe("b");
  });

  it("stops at the ends", () => {
    expect(neighbour(list, "a", -1)).toBe("a");
    expect(neighbour(list, "a", 1)).toBe("b");
    expect(neighbour(list, "d", 1)).toBe("d");
    expect(neighbour(list, null, 1)).toBe("a");
    expect(neighbour(list, null, -1)).toBe("d");
    expect(neighbour([], null, 1)).toBeNull();
  });
});

describe("words and numbers", () => {
  it("prints size, side and type", () => {
    const nodule = view("n", "proposed", {
      laterality: code("7771000"),
      measurements: [
        { code: code("103339001"), value: 9.24, unit: "mm", method: "" },
        { code: code("103340004"), value: 7, unit: "mm", method: "" },
      ],
      attributes: [{ code: code("nodule-attenuation"), value: code("part-solid") }],
    }).finding;
    expect(sizeOf(nodule)).toBe("9.2 × 7.0 mm");
    expect(sideOf(nodule)).toBe("left");
    expect(attenuationOf(nodule)).toBe("part-solid");
    expect(sizeOf(view("x").finding)).toBe("");
    expect(sideOf(view("x").finding)).toBeNull();
    expect(attenuationOf(view("x").finding)).toBeNull();
  });

  it("counts by state", () => {
    expect(countByState(list)).toEqual({ proposed: 2, accepted: 1, edited: 0, rejected: 1 });
  });
});

describe("what stands in the way of signing", () => {
  it("is undecided findings, work under way, or a signature that is there", () => {
    const decided = [view("a", "accepted")];
    expect(obstacle(report(), decided, "ready")).toBeNull();
    expect(obstacle(report(), list, "ready")).toBe("undecided");
    expect(obstacle(report({ undecided: 1 }), decided, "ready")).toBe("undecided");
    expect(obstacle(report(), decided, "running")).toBe("not-ready");
    expect(obstacle(report({ state: "final" }), decided, "signed")).toBe("final");
    expect(obstacle(undefined, decided, "ready")).toBe("not-ready");
  });
});

describe("percentOf", () => {
  it("never shows an agent as certain", () => {
    expect(percentOf(0.9996)).toBe(99);
    expect(percentOf(0)).toBe(1);
    expect(percentOf(0.544)).toBe(54);
  });
});
