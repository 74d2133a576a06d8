import { describe, expect, it } from "vitest";
import type { PatientIdentity } from "../api/types";
import { whatItWas } from "./identity";

const wang: PatientIdentity = { patient_id: "P-1", issuer: "SITE-A", name: "Wang^XiaoDong=王^小东", birth_date: "1960-01-02", sex: "M" };

describe("whatItWas", () => {
  it("names only what was changed, as it was before", () => {
    expect(whatItWas({ before: wang, after: { ...wang, name: "Wong^Dong" } })).toBe("王小东  Wang, XiaoDong");
    expect(whatItWas({ before: wang, after: { ...wang, birth_date: "1961-01-02", sex: "F" } })).toBe("1960-01-02, M");
  });

  it("shows the identifier of a merged identity with its issuer", () => {
    expect(whatItWas({ before: wang, after: { ...wang, patient_id: "P-2" } })).toBe("P-1 / SITE-A");
  });

  it("says that a part was not known", () => {
    expect(whatItWas({ before: { ...wang, birth_date: null }, after: wang })).toBe("-");
  });
});
