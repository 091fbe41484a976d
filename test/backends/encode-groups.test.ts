/** HQQ by the kernels when the values of the tensor are more than a member may have in its memory. */

import { expect, test } from "vitest";
import { newBadTile } from "../../src/backends/encode-job.js";
import { teamOfOne } from "../../src/backends/team.js";
import { Banks } from "../../src/backends/wasm-bank.js";
import { arrayReader } from "../../src/backends/wasm-encode.js";
import { encodeGroups } from "../../src/backends/wasm-encode-groups.js";
import { quantize } from "../../src/quants/index.js";
import { expectSame } from "../gguf-support.js";
import { fillRow } from "../suites/rows.js";

const GROUPS = 130;
const COUNT = 64 * GROUPS;

type Type = "HQQ4" | "HQQ8";
type Algorithm = "mistralrs" | "hqq";

/** Eight groups at a time, and two at the end. */
async function encodeInRuns(type: Type, algorithm: Algorithm, values: Float32Array) {
  const { first: bank } = await Banks.open(2 ** 24);
  const reads: number[] = [];
  const reader = arrayReader(values);
  const out = {
    data: new Uint8Array(type === "HQQ8" ? COUNT : COUNT / 2),
    scales: new Float32Array(GROUPS),
    zeros: new Float32Array(GROUPS),
    votes: new Float32Array(2 * GROUPS),
    bad: newBadTile(new Int32Array(1)),
  };
  const job = { type, algorithm, count: COUNT, width: 64 };
  const counting: typeof reader = {
    read(bank, first, count, address) {
      reads.push(count);
      reader.read(bank, first, count, address);
    },
  };
  const found = encodeGroups(bank, job, counting, out, teamOfOne(), 8 * 64);
  return { ...out, found, reads };
}

test.each([
  ["HQQ4", "mistralrs"],
  ["HQQ4", "hqq"],
  ["HQQ8", "mistralrs"],
  ["HQQ8", "hqq"],
] as const)("%s of %s has the reference's bytes", async (type, algorithm) => {
  const values = new Float32Array(COUNT);
  const kinds = ["gauss", "heavy", "outlier", "uniform"] as const;
  fillRow(
    kinds.map((kind, seed) => ({ kind, exponent: 0, seed })),
    values,
  );
  const expected = quantize(type, values, { shape: [GROUPS, 64], algorithm });
  const { data, scales, zeros, reads } = await encodeInRuns(type, algorithm, values);
  expectSame(data, expected.data);
  expectSame(scales, expected.scales!);
  expectSame(zeros, expected.zeros!);
  expect(Math.max(...reads)).toBe(algorithm === "hqq" ? 512 : 8);
  const total = reads.reduce((sum, count) => sum + count);
  expect(total % COUNT).toBe(0);
  expect(total / COUNT).toBeGreaterThanOrEqual(4); // the ranges, two rounds at least, the codes
});

test("the first value that is no number is found in a later run", async () => {
  const values = new Float32Array(COUNT).fill(1);
  values[GROUPS] = Number.POSITIVE_INFINITY; // the second member of the first group
  values[125] = Number.NaN;
  const { found } = await encodeInRuns("HQQ4", "mistralrs", values);
  expect(found).toEqual({ nonFinite: 125, nonFiniteValue: Number.NaN, reencodedBlocks: 0 });
});
