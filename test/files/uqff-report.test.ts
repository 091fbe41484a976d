/** uqff_report.json: what it must have, and where it is refused. */

import { describe, expect, test } from "vitest";
import { formatUqffReport, parseUqffReport } from "../../src/files/uqff-report.js";

const output = { quant: "q4k", shards: ["m-0.uqff", "m-1.uqff"], layers: 3, actual_counts: { q4k: 3 } };
const text = (outputs: unknown, schema: unknown = 1) => JSON.stringify({ schema, outputs });
const refused = (field: string, value: unknown, limit: string) =>
  expect.objectContaining({ tag: "uqff/report", details: { file: "f", field, value, limit } });

test("a report is read as it was written", () => {
  const whole = { ...output, fallback_count: 0, fallbacks: [], layer_details: [] };
  const other = { ...whole, quant: "q8_0", shards: ["n.uqff"], layers: 0, actual_counts: {} };
  const written = formatUqffReport({
    generated_by: { isq: "1" },
    uqff_version: "1.1",
    outputs: [whole, other],
  });
  expect(written.endsWith("}\n")).toBe(true);
  expect(JSON.parse(written)).toMatchObject({ schema: 1, uqff_version: "1.1" });
  const { quant, shards, layers, actual_counts } = other;
  expect(parseUqffReport(written, "f")).toEqual([output, { quant, shards, layers, actual_counts }]);
});

describe("refused", () => {
  test.each<[string, string, unknown, string]>([
    ["no JSON", "", "{", "JSON"],
    ["[]", "", "object", "an object"],
    ["null", "", "object", "an object"],
    ["7", "", "number", "an object"],
    [text([output], 2), "schema", 2, "1"],
    [text({}), "outputs", "object", "a list"],
    [text([]), "outputs", "object", "a list"],
    [text([output, 7]), "outputs[1]", "number", "an object"],
    [text([{ ...output, quant: 4 }]), "outputs[0].quant", "number", "a text"],
    [text([{ ...output, shards: "m" }]), "outputs[0].shards", "m", "a list"],
    [text([{ ...output, shards: [] }]), "outputs[0].shards", [], "a list"],
    [text([{ ...output, layers: -1 }]), "outputs[0].layers", -1, "a count"],
    [text([{ ...output, layers: 0.5 }]), "outputs[0].layers", 0.5, "a count"],
    [text([{ ...output, layers: "1" }]), "outputs[0].layers", "1", "a count"],
    [text([{ ...output, actual_counts: [] }]), "outputs[0].actual_counts", [], "counts by type"],
    [
      text([{ ...output, actual_counts: { a: 1, b: -1 } }]),
      "outputs[0].actual_counts",
      { a: 1, b: -1 },
      "counts by type",
    ],
  ])("%s", (json, field, value, limit) => {
    const shown = value === "{" ? json : value;
    expect(() => parseUqffReport(json, "f")).toThrow(refused(field, shown, limit));
  });

  test.each([7, "../m.uqff", "a/m.uqff", ".m.uqff", "m.uqff.exe", "m", "m.uqffx\n"])(
    "the shard %j",
    (shard) => {
      const limit = "plain names of .uqff files";
      expect(() => parseUqffReport(text([{ ...output, shards: [shard] }]), "f")).toThrow(
        refused("outputs[0].shards", shard, limit),
      );
    },
  );

  test("a shard that comes twice, also in another output; what is no JSON shows its start", () => {
    const twice = expect.objectContaining({
      details: expect.objectContaining({ field: "outputs[1].shards", value: "m-1.uqff" }),
    });
    expect(() => parseUqffReport(text([output, { ...output, shards: ["m-1.uqff"] }]), "f")).toThrow(twice);
    expect(() => parseUqffReport("x".repeat(30), "f")).toThrow(refused("", "x".repeat(20), "JSON"));
  });
});
