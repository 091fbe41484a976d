/** Where topology files are refused: tag, line, field, value and limit, and files that stand exactly on the caps. */

import { describe, expect, test } from "vitest";
import { type IsqError, isIsqError } from "../../src/errors.js";
import { parseTopology } from "../../src/files/topology.js";

function refusalOf(text: string, file?: string): IsqError {
  try {
    parseTopology(text, file);
  } catch (error) {
    if (isIsqError(error)) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

const REFUSED: readonly [string, string, string, Record<string, unknown>][] = [
  ["nothing", "", "topology/field", { line: 1, field: "the topology" }],
  ["a text", "a", "topology/field", { line: 1, field: "the topology" }],
  ["no rules", "{}", "topology/yaml", { line: 1, value: 0, limit: 1000 }],
  ["a list", "- a", "topology/field", { line: 1, field: "the topology" }],
  ["a rule twice", "0: {}\n1: {}\n0: {}", "topology/yaml", { line: 3, field: "0" }],
  ["a field twice", "0: {}\n1:\n  isq: Q4K\n  isq: Q4K", "topology/yaml", { line: 4, field: "isq" }],
  ["a merge key", "0: {}\n<<: {}", "topology/yaml", { line: 2, field: "<<" }],
  ["a rule without fields", "0: {}\n1:", "topology/field", { line: 2, field: "1" }],
  ["a rule that is a text", "0: {}\n1: Q4K", "topology/field", { line: 2, field: "1" }],
  ["a rule that is a list", "0: {}\n1: [a]", "topology/field", { line: 2, field: "1" }],
  ["a field without value", "0:\n  isq:", "topology/field", { line: 2, field: "isq" }],
  ["a field that is a map", "0:\n  isq: {a: b}", "topology/field", { line: 2, field: "isq" }],
  ["a field that is a list", "0:\n  isq: [a]", "topology/yaml", { line: 2, field: "isq" }],
  ["an unknown field", "0: {}\n1:\n  isk: Q4K", "topology/field", { line: 2, field: "isk", value: "Q4K" }],
  ["an unknown type", "0: {}\n1:\n  isq: Q9K", "type/unknown", { line: 2, selector: "1" }],
  ["an unknown device", "0:\n  device: tpu", "topology/device", { line: 1, selector: "0" }],
  ["an unknown selector", "0: {}\nfirst: {}", "topology/selector", { line: 2, selector: "first" }],
  ["an empty key", "0: {}\n'': {}", "topology/field", { line: 2 }],
  ["a key that is a map", "0: {}\n? {a: b}\n: {}", "topology/field", {}],
  ["an anchor of a map", "0: {}\n1: &a {}", "topology/yaml", { line: 2, field: "1" }],
  ["an anchor of a value", "0:\n  isq: &a Q4K", "topology/yaml", { line: 2, field: "isq" }],
  ["a tag of a map", "0: {}\n1: !!map {}", "topology/yaml", { line: 2 }],
  ["a tag of a value", "0:\n  isq: !!str Q4K", "topology/yaml", { line: 2 }],
  ["an alias", "0:\n  isq: *a", "topology/yaml", { line: 2 }],
  ["broken YAML", "0: {}\n1: {", "topology/yaml", { value: "BAD_INDENT" }],
  ["two documents", "0: {}\n---\n1: {}", "topology/yaml", { value: "MULTIPLE_DOCS" }],
];

describe("refused, with its place", () => {
  test.each(REFUSED)("%s", (_what, text, tag, details) => {
    const error = refusalOf(text, "my.yml");
    expect(error.tag).toBe(tag);
    expect(error.details).toMatchObject({ file: "my.yml", ...details });
    expect(error.message.startsWith(`my.yml:${error.details.line}: `)).toBe(true);
  });

  test("a file without a name", () => {
    expect(refusalOf("").details.file).toBe("topology");
  });

  test("the fields that there are", () => {
    expect(refusalOf("0: {a: b}").details.limit).toEqual(["isq", "device"]);
  });
});

describe("exactly at a cap, and one more", () => {
  const rules = (count: number) => Array.from({ length: count }, (_, i) => `${i}: {}\n`).join("");
  const padded = (length: number) => `0: {}\n#${"x".repeat(length - 7)}`;
  const nested = (depth: number) => `0: {isq: ${"{a: ".repeat(depth)}b${"}".repeat(depth)}}`;

  test("rules", () => {
    expect(parseTopology(rules(1000))).toHaveLength(1000);
    expect(refusalOf(rules(1001)).details).toMatchObject({ line: 1, value: 1001, limit: 1000 });
  });

  test("characters", () => {
    expect(parseTopology(padded(32_768))).toHaveLength(1);
    const details = { line: 1, field: "length", value: 32_769, limit: 32_768 };
    expect(refusalOf(padded(32_769))).toMatchObject({ tag: "topology/yaml", details });
  });

  test("levels, of values, keys and lists", () => {
    const shallow = refusalOf(nested(5));
    expect(shallow).toMatchObject({ tag: "topology/field", details: { field: "isq" } });
    const details = { line: 1, value: 9, limit: 8 };
    expect(refusalOf(nested(6))).toMatchObject({ tag: "topology/yaml", details });
    expect(refusalOf(`\n${"[".repeat(9)}${"]".repeat(9)}`)).toMatchObject({
      details: { value: 9, limit: 8 },
    });
    expect(refusalOf(`${"{".repeat(9)}a${"}".repeat(9)}: b`).details).toMatchObject({ value: 9, limit: 8 });
  });
});

test("a file that is read says what it says", () => {
  const text = "0-3: {isq: Q4K, device: cpu}\n'7': {isq: none}\n/a/: {device: webgpu}\n";
  expect(parseTopology(text)).toMatchObject([
    { layers: { start: 0, end: 3 }, isq: "Q4K", device: "cpu" },
    { layers: { start: 7, end: 8 }, isq: "none" },
    { device: "webgpu" },
  ]);
});
