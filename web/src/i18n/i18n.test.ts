import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { en } from "./en";
import { preferredLanguage } from "./index";
import { zh } from "./zh";

type Tree = { [key: string]: string | Tree };

function leaves(tree: Tree, path = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    const here = path === "" ? key : `${path}.${key}`;
    if (typeof value === "string") found.set(here, value);
    else for (const [k, v] of leaves(value, here)) found.set(k, v);
  }
  return found;
}

const english = leaves(en);
const chinese = leaves(zh);
const holes = (text: string): string[] => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((m) => m[1]!).sort();

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /\.tsx?$/.test(entry.name) && !/\.test\./.test(entry.name) ? [readFileSync(path, "utf8")] : [];
  });
}

describe("dictionaries", () => {
  it("have the same keys, none empty", () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
    for (const text of [...english.values(), ...chinese.values()]) expect(text.trim()).not.toBe("");
  });

  it("fill the same holes", () => {
    for (const [key, text] of english) expect([key, holes(chinese.get(key) ?? "")]).toEqual([key, holes(text)]);
  });

  it("are Chinese where they should be", () => {
    const latin = [...chinese].filter(([, text]) => !/[\u4e00-\u9fff]/.test(text)).map(([key]) => key);
    expect(latin.sort()).toEqual(["app.name", "measure.perc-15"]);
  });

  it("hold every key that the pages ask for", () => {
    const asked = sources(join(import.meta.dirname, "..")).flatMap((text) =>
      [...text.matchAll(/\bt\(\s*"([\w.-]+)"/g)].map((m) => m[1]!),
    );
    expect(asked.length).toBeGreaterThan(60);
    const missing = asked.filter((key) => !english.has(key) && !english.has(`${key}_other`));
    expect(missing).toEqual([]);
  });
});

describe("preferredLanguage", () => {
  it("keeps the reader's choice, else follows the browser", () => {
    expect(preferredLanguage("zh", ["en-GB"])).toBe("zh");
    expect(preferredLanguage(null, ["zh-CN", "en"])).toBe("zh");
    expect(preferredLanguage("xx", ["de"])).toBe("en");
    expect(preferredLanguage(null, [])).toBe("en");
  });
});
