import { describe, expect, it } from "vitest";
import { parsePatientName, printPatientName } from "./patientName";

describe("parsePatientName", () => {
  it.each([
    ["Wang^XiaoDong=王^小东", "Wang, XiaoDong", "王小东", ""],
    ["Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou", "山田太郎", "やまだたろう"],
    ["Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams, Rev. John Robert Quincy B.A. M.Div.", "", ""],
    ["LIDC-IDRI-0063", "LIDC-IDRI-0063", "", ""],
    ["王^小东", "", "王小东", ""],
    ["^Given", "Given", "", ""],
    ["", "", "", ""],
    ["Doe^", "Doe", "", ""],
  ])("%s", (value, alphabetic, ideographic, phonetic) => {
    expect(parsePatientName(value)).toEqual({ alphabetic, ideographic, phonetic });
  });

  it("prints the patient's own script first", () => {
    expect(printPatientName("Wang^XiaoDong=王^小东")).toBe("王小东  Wang, XiaoDong");
  });

  it("keeps markup as the text it is", () => {
    expect(printPatientName("<img src=x onerror=alert(1)>^A")).toContain("<img src");
  });
});
