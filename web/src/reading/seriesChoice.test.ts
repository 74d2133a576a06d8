import { describe, expect, it } from "vitest";
import type { Series, Study } from "../api/types";
import { firstSeries, hasPixels, imageModalities } from "./seriesChoice";

const series = (uid: string, modality: string, count: number, derived = false): Series => ({
  series_instance_uid: uid, modality, series_number: 1, description: "", body_part: "", instance_count: count, derived,
});
const study = (over: Partial<Study>): Study =>
  ({ series: [], runs: [], findings: [], priors: [], signature: null, revision: 1, evidence: "", ...over }) as unknown as Study;

describe("series", () => {
  it("are pictures or results", () => {
    expect(hasPixels(series("1", "CT", 3))).toBe(true);
    expect(hasPixels(series("1", "SEG", 1, true))).toBe(false);
    expect(imageModalities(["CT", "DOC", "KO", "SEG", "SR"])).toEqual(["CT"]);
    expect(imageModalities(["SR"])).toEqual(["SR"]);
  });

  it("open with what the agents read, else with the longest", () => {
    const all = [series("scout", "CT", 2), series("thin", "CT", 300), series("seg", "SEG", 900, true)];
    expect(firstSeries(study({ series: all }))).toBe("thin");
    expect(firstSeries(study({ series: all, runs: [{ series_instance_uid: "scout" }] as Study["runs"] }))).toBe("scout");
    expect(firstSeries(study({ series: [all[2]!] }))).toBeNull();
  });
});
