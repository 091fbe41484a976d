/** Files of the published llama.cpp library and of our own encoders are audited against their source. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditedFile, type AuditReport, audit } from "../src/audit.js";
import type { Backend } from "../src/backends/backend.js";
import { wasm } from "../src/backends/wasm.js";
import { narrow } from "../src/dense.js";
import { openGgufCheckpoint } from "../src/gguf-checkpoint.js";
import { type OpenedModel, openModel } from "../src/load.js";
import { openDirectory } from "../src/node/directory.js";
import { floatFromHalf, halfFromFloat } from "../src/numerics.js";
import { HYPOTHESES } from "../src/oracle/arithmetic.js";
import { auditTensor, type TensorAuditOptions } from "../src/oracle/audit-tensor.js";
import { keepsCodes } from "../src/oracle/consistency.js";
import { bytesOf, join as joinBytes } from "../src/oracle/packed.js";
import { randomFrom } from "../src/oracle/random.js";
import { makeImportance } from "../src/oracle/rows.js";
import { encodeRow, type RowInput } from "../src/oracle/trace-row.js";
import { type IsqType, quantize, TYPE_NAMES, TYPES } from "../src/quants/index.js";
import { formatAudit } from "../src/report/audit-text.js";
import { ggufDirectory, toGguf } from "./gguf-support.js";
import { oracleMissing } from "./oracle/ggml.js";
import { type Llama, openLlama } from "./oracle/llama.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const SOURCE = join(root, "models/tiny-mistral");
const folder = mkdtempSync(join(tmpdir(), "isq-audit-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let source: OpenedModel;
let backend: Backend;
beforeAll(async () => {
  source = await openModel(await openDirectory(SOURCE));
  backend = await wasm();
});

async function auditBytes(bytes: Uint8Array): Promise<AuditReport> {
  const { checkpoint } = await openGgufCheckpoint(ggufDirectory(bytes), "model.gguf");
  return audit(checkpoint, { source: source.checkpoint, backend });
}

/** Verdicts with their counts of tensors. */
function verdictsOf({ tensors }: AuditReport): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { findings, dense, notCompared } of tensors) {
    const verdict = findings?.verdict ?? (dense ? `dense ${dense.equal}` : (notCompared as string));
    counts[verdict] = (counts[verdict] ?? 0) + 1;
  }
  return counts;
}

describe.runIf(oracleMissing === undefined)("files that llama.cpp quantized", () => {
  let llama: Llama;
  let full: string;
  beforeAll(async () => {
    llama = await openLlama();
    full = join(folder, "full.gguf");
    writeFileSync(full, await toGguf(source));
  });

  const quantized = (fileType: number, pure: boolean): Uint8Array => {
    const path = join(folder, `${fileType}-${pure}.gguf`);
    llama.quantize(full, path, fileType, pure);
    return readFileSync(path);
  };

  test.each([
    ["Q4_0", 2, true, ["Q4_0"]],
    ["Q4_K, pure", 14, true, ["Q4K"]],
    ["Q4_K_M, mixed", 15, false, ["Q4K", "Q6K"]],
    ["Q2_K, mixed", 10, false, ["Q2K", "Q3K", "Q6K"]],
    ["Q5_K_M, mixed", 17, false, ["Q5K", "Q6K"]],
  ] as const)("%s: every tensor is identical", async (_name, fileType, pure, types) => {
    const report = await auditBytes(quantized(fileType, pure));
    const { identical, "dense true": dense, ...others } = verdictsOf(report);
    expect(others).toEqual({});
    expect(identical).toBeGreaterThan(40);
    expect(dense).toBeGreaterThan(10);
    expect(report.ok).toBe(true);
    const found = new Set(report.tensors.flatMap((tensor) => (tensor.findings ? [tensor.type] : [])));
    expect([...found].sort()).toEqual(expect.arrayContaining([...types]));
    console.log(`${_name}: ${formatAudit(report).trimEnd().split("\n").at(-1)}`);
  });

  test("the command says so, and finds a changed weight", () => {
    const path = join(folder, "2-true.gguf");
    const run = (file: string, ...more: string[]) =>
      spawnSync(
        process.execPath,
        ["dist/cli/main.js", "audit", "--source", SOURCE, "--quantized", file, ...more],
        {
          cwd: root,
          encoding: "utf8",
        },
      );
    const good = run(path);
    expect(good.stderr).not.toMatch(/isq:/);
    expect(good.stdout).toMatch(
      /\nOK .*2-true\.gguf against .*tiny-mistral\/model.safetensors: 4\d identical; \d+ same values\n$/,
    );
    expect(good.status).toBe(0);
    const bytes = readFileSync(path);
    bytes[bytes.length - 5] ^= 0x30;
    const changed = join(folder, "changed.gguf");
    writeFileSync(changed, bytes);
    const bad = run(changed, "--json");
    expect(bad.status).toBe(1);
    const report: AuditReport = JSON.parse(bad.stdout);
    const wrong = report.tensors.filter(({ findings }) => findings && findings.verdict !== "identical");
    expect(wrong).toHaveLength(1);
    expect(wrong[0].findings).toMatchObject({ verdict: "not from this source", counts: { foreign: 1 } });
    expect(run(changed).stdout).toMatch(/\nNOT OK .*1 not from this source/);
  });
});

/** A file in memory with one tensor of each entry. */
function fileOf(entries: Record<string, { dtype: string; shape: number[]; data: Uint8Array }>): AuditedFile {
  const tensors = new Map(
    Object.entries(entries).map(([name, { data, ...rest }]) => [
      name,
      { name, ...rest, byteLength: data.length },
    ]),
  );
  return {
    name: "memory",
    tensors,
    readRange: async (name, from, to) => entries[name].data.subarray(from, to),
  };
}

const ROWS = 24;
const COLUMNS = 512;
const shape = [ROWS, COLUMNS];

/** Weights as models have them: rows of a bell shape of different widths. */
function weights(seed: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => random.gauss() * 0.02 * (1 + (i % 7)));
}
const WEIGHTS = weights(1);
const IMPORTANCE = makeImportance({ kind: "wide", seed: 5 }, COLUMNS);
const GUESS = { importance: false, rounded: null };

function encodeRows(type: IsqType, values: Float32Array, encode: (row: RowInput) => Uint8Array): Uint8Array {
  const rows = Array.from({ length: ROWS }, (_, r) =>
    encode({ type, algorithm: "ggml", values: values.subarray(r * COLUMNS, (r + 1) * COLUMNS) }),
  );
  return joinBytes(rows);
}

const audited = (type: IsqType, data: Uint8Array, options: TensorAuditOptions = {}) =>
  auditTensor({ type, algorithm: "ggml", shape, data }, WEIGHTS, options);

const BLOCK_TYPES = TYPE_NAMES.filter((type) => TYPES[type].family === "block");
const SEARCHED = BLOCK_TYPES.filter((type) => TYPES[type].importance.includes("ggml"));

describe("one tensor", () => {
  test.each(TYPE_NAMES)("%s of each algorithm is identical", async (type) => {
    for (const algorithm of TYPES[type].algorithms) {
      const { verdict, counts } = await auditTensor(quantize(type, WEIGHTS, { shape, algorithm }), WEIGHTS);
      const first = algorithm === TYPES[type].algorithms[0];
      // Where the lineages agree on every block, the first one is named.
      if (first) expect(verdict).toBe("identical");
      else expect(["identical", "identical under another algorithm"]).toContain(verdict);
      expect(counts.foreign + counts["other-search"] + counts["near-tie"]).toBe(0);
    }
  });

  test("the other lineage is named", async () => {
    const { data } = quantize("Q4K", WEIGHTS, { shape, algorithm: "mistralrs" });
    const { verdict, encoder, worst } = await audited("Q4K", data);
    expect([verdict, encoder.algorithm, worst]).toEqual([
      "identical under another algorithm",
      "mistralrs",
      undefined,
    ]);
  });

  test.each(["Q2K", "Q3K", "Q4K", "Q5K", "Q6K"] as const)(
    "%s of fused builds: near ties only",
    async (type) => {
      let ties = 0;
      for (const { cause, arithmetic, detail } of HYPOTHESES) {
        if (cause !== "fused multiply-add") continue;
        const found = await audited(
          type,
          encodeRows(type, WEIGHTS, (row) => encodeRow(row, arithmetic)),
        );
        const clean = { "other-search": 0, foreign: 0 };
        expect(found.counts, detail).toMatchObject(clean);
        expect(["identical", "differs only at near ties"]).toContain(found.verdict);
        ties += found.counts["near-tie"];
      }
      // Q3_K's search decides among few scales: so few blocks have no near tie.
      if (type !== "Q3K") expect(ties).toBeGreaterThan(0);
    },
  );

  test.each(SEARCHED)(
    "%s with importance: another search, or identical when the importance is known",
    async (type) => {
      const { data } = quantize(type, WEIGHTS, { shape, importance: IMPORTANCE });
      const unknown = await audited(type, data);
      expect(unknown.verdict).toBe("other importance or search");
      expect(unknown.counts.foreign).toBe(0);
      const known = await audited(type, data, { importance: IMPORTANCE });
      expect(known).toMatchObject({ verdict: "identical", encoder: { algorithm: "ggml", importance: true } });
    },
  );

  test.each(BLOCK_TYPES)("%s of other weights is not from this source", async (type) => {
    const { verdict, counts } = await audited(type, quantize(type, weights(2), { shape }).data);
    expect(verdict).toBe("not from this source");
    expect(counts.foreign).toBeGreaterThan(0.9 * (counts.foreign + counts["other-search"]));
  });

  test.each(BLOCK_TYPES)("%s with one planted weight: one block, and its element", async (type) => {
    const changed = WEIGHTS.slice();
    const [row, column] = [11, 300];
    changed[row * COLUMNS + column] += changed[row * COLUMNS + column] > 0 ? -0.12 : 0.12;
    const { blockElements } = TYPES[type];
    const found = await audited(type, quantize(type, changed, { shape }).data);
    expect(found.verdict).toBe("not from this source");
    expect(found.counts).toMatchObject({ "near-tie": 0, "other-search": 0, foreign: 1 });
    const block = Math.floor(column / blockElements);
    expect(found.worst).toMatchObject({
      row,
      block,
      element: column - block * blockElements,
      class: "foreign",
    });
    expect(found.worst?.explanation?.block).toBe(block);
  });

  test("one code that is a step off is not from this source", async () => {
    for (const type of BLOCK_TYPES) {
      const { data } = quantize(type, WEIGHTS, { shape });
      const at = TYPES[type].fields.find(({ name }) => name === "qs" || name === "ql")?.offset as number;
      data[3 * TYPES[type].blockBytes + at + 5] ^= 1;
      const { counts } = await audited(type, data);
      // Under importance, the types of 32 can have another code at the same scale.
      const worse = counts.foreign + (keepsCodes(type) ? counts["other-search"] : 0);
      expect([worse, counts.identical], type).toEqual([1, (ROWS * COLUMNS) / TYPES[type].blockElements - 1]);
    }
  });

  test("a source that was rounded on the way", async () => {
    const rounded = WEIGHTS.map((v) => floatFromHalf(halfFromFloat(v)));
    const { verdict, encoder } = await audited("Q6K", quantize("Q6K", rounded, { shape }).data);
    expect([verdict, encoder]).toEqual(["identical", { algorithm: "ggml", ...GUESS, rounded: "F16" }]);
  });

  test.each(["HQQ4", "HQQ8", "FP8"] as const)("%s of other weights", async (type) => {
    const found = await auditTensor(quantize(type, weights(2), { shape }), WEIGHTS);
    expect(found.verdict).toBe("not from this source");
  });
});

describe("without a source", () => {
  const inspect = async (type: IsqType, change: (data: Uint8Array) => void) => {
    const { data } = quantize(type, WEIGHTS, { shape });
    change(data);
    const dtype = TYPES[type].ggml?.name as string;
    const report = await audit(fileOf({ w: { dtype, shape, data } }));
    expect(report.tensors[0].notCompared).toBe("no source given");
    return report;
  };

  test("a sound tensor is fine, and its codes are counted", async () => {
    const report = await inspect("Q4_0", () => {});
    expect(report.ok).toBe(true);
    const { codes, unusedCodes, blocks } = report.tensors[0].inspection!;
    expect([codes.length, unusedCodes, blocks]).toEqual([16, 0, (ROWS * COLUMNS) / 32]);
    expect(codes.reduce((sum, count) => sum + count)).toBe(ROWS * COLUMNS);
  });

  test.each<[string, IsqType, (data: Uint8Array) => void, object]>([
    ["a NaN scale", "Q4K", (data) => data.set([0, 0x7e], 144), { nonFinite: 1, firstNonFinite: 1 }],
    ["an infinite scale", "Q6K", (data) => data.set([0, 0x7c], 208), { nonFinite: 1, firstNonFinite: 0 }],
    [
      "a negative dmin",
      "Q2K",
      (data) => data.set([0, 0xa0], 84 + 82),
      { impossible: [{ rule: "dmin is negative", count: 1, first: 1 }] },
    ],
    [
      "a code of -128",
      "Q8_0",
      (data) => data.fill(0x80, 2, 3),
      { impossible: [{ rule: "a code is -128", count: 1, first: 0 }] },
    ],
    [
      "a wrong sum",
      "Q8K",
      (data) => data.fill(77, 292 + 260, 292 + 261),
      { impossible: [{ rule: "a sum is not that of its codes", count: 1, first: 1 }] },
    ],
    [
      "another wrong sum",
      "Q8_1",
      (data) => data.set([0, 0x44], 36 + 2),
      { impossible: [{ rule: "s is not d times the sum of the codes", count: 1, first: 1 }] },
    ],
    [
      "codes nobody uses",
      "Q4_0",
      (data) => {
        for (let at = 0; at < data.length; at += 18) for (let i = 2; i < 18; i++) data[at + i] &= 0xee;
      },
      { unusedCodes: 8 },
    ],
  ])("%s", async (_what, type, change, expected) => {
    const report = await inspect(type, change);
    expect(report.tensors[0].inspection).toMatchObject(expected);
    const wrong = "nonFinite" in expected || "impossible" in expected;
    expect(report.ok).toBe(!wrong);
    if (wrong) expect(formatAudit(report)).toMatch(/NOT OK/);
  });

  test("pieces of a large tensor are one", async () => {
    const columns = 2 ** 20;
    const values = new Float32Array(6 * columns).map((_, i) => Math.sin(i));
    const data = quantize("Q8_0", values, { shape: [6, columns] }).data;
    data.set([0, 0x7e], 5 * (columns / 32) * 34);
    const report = await audit(fileOf({ w: { dtype: "Q8_0", shape: [6, columns], data } }));
    expect(report.tensors[0].inspection).toMatchObject({
      blocks: (6 * columns) / 32,
      firstNonFinite: (5 * columns) / 32,
    });
  });
});

describe("files", () => {
  const f32 = (values: Float32Array) => ({ dtype: "F32", shape, data: bytesOf(values) });

  test("a tensor that the source lacks, and one that nobody can decode, are said to be so", async () => {
    const file = fileOf({
      known: { dtype: "Q4_0", shape, data: quantize("Q4_0", WEIGHTS, { shape }).data },
      unknown: { dtype: "Q4_0", shape, data: quantize("Q4_0", WEIGHTS, { shape }).data },
      odd: { dtype: "IQ2_XS", shape, data: new Uint8Array(10) },
    });
    const report = await audit(file, { source: fileOf({ known: f32(WEIGHTS) }) });
    expect(report.tensors.map(({ findings, notCompared }) => findings?.verdict ?? notCompared)).toEqual([
      "identical",
      "no such tensor in the source",
      "type without a decoder here",
    ]);
  });

  test("dense tensors are compared by value, in the file's type", async () => {
    const other = WEIGHTS.slice();
    other[700] += 1;
    const half = { dtype: "F16", shape, data: narrow(WEIGHTS, "F16") };
    const file = fileOf({ a: f32(WEIGHTS), b: f32(other), c: half });
    const report = await audit(file, {
      source: fileOf({ a: f32(WEIGHTS), b: f32(WEIGHTS), c: f32(WEIGHTS) }),
    });
    expect(report.tensors.map(({ dense }) => dense)).toEqual([
      { equal: true },
      { equal: false, element: 700 },
      { equal: true },
    ]);
    expect(report.ok).toBe(false);
  });

  test("another shape is refused, and a signal ends the work", async () => {
    const file = fileOf({ w: { dtype: "Q4_0", shape, data: quantize("Q4_0", WEIGHTS, { shape }).data } });
    const source = fileOf({ w: { dtype: "F32", shape: [COLUMNS, ROWS], data: bytesOf(WEIGHTS) } });
    await expect(audit(file, { source })).rejects.toMatchObject({ tag: "tensor/shape" });
    await expect(audit(file, { signal: AbortSignal.abort() })).rejects.toMatchObject({ tag: "aborted" });
  });
});
