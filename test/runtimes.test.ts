/** A part of the suite of scripts/runtimes.mjs, in this Node and in the browser: the same bytes, refusals of ours. */

import { beforeAll, describe, expect, test } from "vitest";
import { chromiumMissing } from "../scripts/browser.mjs";
import {
  buildSuite,
  featuresOfChromium,
  mergeRows,
  runInChromium,
  runWithCommand,
} from "../scripts/runtimes.mjs";
import type { RuntimeReport } from "./suites/runtime/index.js";

test("a row with two values is told, and who has which", () => {
  const merged = mergeRows({
    one: { rows: { a: { wasm: "12", threads: "12" }, b: { wasm: "34" } } },
    two: { rows: { a: { wasm: "13" }, b: { wasm: "34" } } },
  });
  expect([...merged.get("a")]).toEqual([
    ["12", ["one wasm", "one threads"]],
    ["13", ["two wasm"]],
  ]);
  expect(merged.get("b").size).toBe(1);
});

describe("everything that is produced", () => {
  let node: RuntimeReport;
  beforeAll(async () => {
    await buildSuite();
    const command = { command: process.execPath, args: ["runtimes/run-suite.mjs"] };
    node = runWithCommand("node in tests", command, ["--quick"]);
  });

  test("in Node: all checks pass, all features are there", () => {
    expect(node.failures).toEqual([]);
    const { "default backend": fastest, ...features } = node.features;
    expect(fastest).toBe("yes: threads");
    expect(new Set(Object.values(features))).toEqual(new Set(["yes"]));
    expect([...mergeRows({ node }).values()].filter((values) => values.size > 1)).toEqual([]);
  });

  if (chromiumMissing !== undefined) {
    test.skip(`not in a browser: ${chromiumMissing}`, () => {});
    return;
  }

  test("in Chromium, with worker threads: the same", async () => {
    const chromium: RuntimeReport = await runInChromium({ isolated: true, quick: true });
    expect(chromium.failures).toEqual([]);
    expect(chromium.features).toMatchObject({ "isq/threads": "yes", "default backend": "yes: threads" });
    for (const feature of ["files by path", "folders by path", "saving to a path"]) {
      expect(chromium.features[feature]).toMatch(/^backend\/unavailable: this runtime has no file system/);
    }
    const merged = mergeRows({ node, chromium });
    expect([...merged].filter(([, values]) => values.size > 1)).toEqual([]);
    expect(Object.keys(chromium.rows)).toEqual(Object.keys(node.rows));
    expect(chromium.rows["model: greedy text"]).toEqual(node.rows["model: greedy text"]);
  });

  test("in Chromium, without shared memory: threads are refused with the reason", async () => {
    const features: RuntimeReport["features"] = await featuresOfChromium({ isolated: false });
    expect(features["isq/threads"]).toMatch(/^backend\/unavailable: .*Cross-Origin-Opener-Policy/);
    expect(features["default backend"]).toBe("yes: wasm");
  });
});
