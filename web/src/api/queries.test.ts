import { describe, expect, it } from "vitest";
import { type DecideVariables, withPending } from "./queries";
import type { FindingView } from "./types";

const view = (id: string): FindingView => ({
  version: 0, title: id, limits: [], decided_by: null, decided_at: null, reason: "",
  finding: {
    id, study_instance_uid: "1", code: { system: "", code: "", display: "" }, source: { kind: "agent", id: "a", version: "1" },
    state: "proposed", body_site: null, laterality: null, region: null, measurements: [], attributes: [], confidence: null,
    limits: [], evidence: { images: [], rules: [], prior_finding_ids: [] }, note: "",
  },
});

describe("withPending", () => {
  const [a, b] = [view("a"), view("b")];

  it("shows what was decided before the server answers, the last decision of each", () => {
    const pending: DecideVariables[] = [
      { view: a, decision: "accept" },
      { view: a, decision: "reject", reason: "vessel" },
    ];
    const shown = withPending([a, b], pending);
    expect(shown.map((f) => f.finding.state)).toEqual(["rejected", "proposed"]);
    expect(shown[0]!.reason).toBe("vessel");
    expect(shown[1]).toBe(b);
  });

  it("leaves the server's word alone when nothing is under way", () => {
    expect(withPending([a, b], [])).toEqual([a, b]);
    expect(withPending([b], [{ view: a, decision: "accept" }])).toEqual([b]);
  });
});
