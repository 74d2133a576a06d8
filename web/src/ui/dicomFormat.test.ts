import { describe, expect, it } from "vitest";
import { ageInYears, formatBytes, formatDate, formatMeasure, formatReceived, formatTime, sexAndAge } from "./dicomFormat";

describe("DICOM values as text", () => {
  it("prints dates and times and leaves odd ones alone", () => {
    expect(formatDate("20240131")).toBe("2024-01-31");
    expect(formatDate("2024")).toBe("2024");
    expect(formatDate(null)).toBe("");
    expect(formatTime("091530.12")).toBe("09:15");
    expect(formatTime("")).toBe("");
  });

  it("shortens when something was received", () => {
    const now = new Date(2026, 5, 13, 20, 0);
    expect(formatReceived(new Date(2026, 5, 13, 8, 5).toISOString(), now)).toBe("08:05");
    expect(formatReceived(new Date(2026, 4, 2, 8, 5).toISOString(), now)).toBe("05-02 08:05");
    expect(formatReceived(new Date(2025, 5, 13, 8, 5).toISOString(), now)).toBe("2025-06-13");
  });

  it("counts completed years, the birthday included", () => {
    expect(ageInYears("1970-06-15", "20240614")).toBe(53);
    expect(ageInYears("19700615", "20240615")).toBe(54);
    expect(ageInYears(null, "20240615")).toBeNull();
    expect(ageInYears("20250101", "20240615")).toBeNull();
    expect(sexAndAge("F", "19700615", "20240615")).toBe("F 54");
    expect(sexAndAge("", null, "")).toBe("");
  });

  it("prints units as a reader writes them", () => {
    expect(formatMeasure(7.25, "mm")).toBe("7.3 mm");
    expect(formatMeasure(312.4, "mm3")).toBe("312 mm³");
    expect(formatMeasure(-871, "[hnsf'U]")).toBe("-871 HU");
    expect(formatBytes(2_500_000)).toBe("2.4 MB");
  });
});
