import { describe, expect, it } from "vitest";
import type { Delivery } from "../api/types";
import { canTakeUp } from "./takeUp";

const delivery = (state: Delivery["state"]): Delivery => ({ key: "k", destination: "PACS", kind: "SR", state, attempts: 1, reason: "" });

describe("canTakeUp", () => {
  it("is offered for every failed study", () => {
    expect(canTakeUp("failed", "", undefined)).toBe(true);
  });

  it("is offered for a signed study whose objects were not made", () => {
    expect(canTakeUp("signed", "The disk is full", [])).toBe(true);
    expect(canTakeUp("signed", "The disk is full", [delivery("sent")])).toBe(true);
  });

  it("is not offered while or where a delivery is what stands", () => {
    expect(canTakeUp("signed", "SR was not delivered", [delivery("failed")])).toBe(false);
    expect(canTakeUp("signed", "SR was not delivered", [delivery("sent"), delivery("queued")])).toBe(false);
    expect(canTakeUp("signed", "not known yet", undefined)).toBe(false);
  });

  it("is not offered where nothing failed", () => {
    expect(canTakeUp("signed", "", [])).toBe(false);
    expect(canTakeUp("ready", "No agent for this study", [])).toBe(false);
  });
});
