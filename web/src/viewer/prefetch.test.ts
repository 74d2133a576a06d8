import { describe, expect, it } from "vitest";
import { nextMissing, startPrefetch } from "./prefetch";

describe("nextMissing", () => {
  it("looks around the place of interest, ahead first", () => {
    expect(nextMissing([false, false, false, false], 2)).toBe(2);
    expect(nextMissing([false, false, true, false], 2)).toBe(3);
    expect(nextMissing([false, false, true, true], 2)).toBe(1);
    expect(nextMissing([true, true], 0)).toBe(-1);
  });
});

describe("startPrefetch", () => {
  it("asks for every image once, never more than allowed at a time, and goes on after a failure", async () => {
    const asked: number[] = [];
    let running = 0;
    let most = 0;
    let last = 0;
    await new Promise<void>((resolve) => {
      startPrefetch(20, async (index) => {
        asked.push(index);
        most = Math.max(most, ++running);
        await new Promise((r) => setTimeout(r, 1));
        running -= 1;
        if (asked.length === 20) setTimeout(resolve, 20);
        if (index === 7) throw new Error("gone");
      }, (loaded) => { last = loaded; }, 3);
    });
    expect([...asked].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(most).toBeLessThanOrEqual(3);
    expect(last).toBe(19);
  });

  it("follows the reader", async () => {
    const asked: number[] = [];
    const prefetch = startPrefetch(100, async (index) => { asked.push(index); await new Promise((r) => setTimeout(r, 1)); }, () => undefined, 1);
    prefetch.moveTo(50);
    await new Promise((r) => setTimeout(r, 30));
    prefetch.stop();
    expect(asked[0]).toBe(0);
    expect(asked[1]).toBe(50);
    expect(asked.length).toBeLessThan(100);
  });
});
