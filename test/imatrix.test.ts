/** Importance matrices: all forms and what the plan makes of them; the malformed catalogue; bytes missing or changed. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Program, WeightSpec } from "../src/backends/program.js";
import { isIsqError } from "../src/errors.js";
import {
  fromBytes,
  type Imatrix,
  type ImatrixEntry,
  importanceEntries,
  matchImportance,
  openImatrix,
  readImatrix,
  reference,
  TextModelBuilder,
  type TopologyRule,
  writeCimatrix,
  writeImatrixGguf,
} from "../src/index.js";
import { type Plan, type PlanRequest, plan } from "../src/plan.js";
import { formatPlan } from "../src/report/plan-text.js";

const FOLDER = "test/malformed/imatrix";
const MODEL = "models/tiny-mistral";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));
const fileOf = (name: string) => new Uint8Array(readFileSync(`${FOLDER}/${name}`));

const COLUMNS = 256;
const Q = "model.layers.0.self_attn.q_proj.weight";
const expertName = (expert: number, part = "w1") =>
  `model.layers.0.block_sparse_moe.experts.${expert}.${part}.weight`;

/** The weights of a mixture of experts, as far as a plan needs them. */
const weights: readonly WeightSpec[] = [
  { name: "model.embed_tokens.weight", role: "embedding", layer: null, shape: [64, COLUMNS] },
  ...["q", "k", "v", "o"].map((part): WeightSpec => {
    return {
      name: `model.layers.0.self_attn.${part}_proj.weight`,
      role: "linear",
      layer: 0,
      shape: [32, COLUMNS],
    };
  }),
  ...[0, 1].flatMap((expert): WeightSpec[] => [
    { name: expertName(expert, "w1"), role: "linear", layer: 0, shape: [512, COLUMNS] },
    { name: expertName(expert, "w2"), role: "linear", layer: 0, shape: [COLUMNS, 512] },
    { name: expertName(expert, "w3"), role: "linear", layer: 0, shape: [512, COLUMNS] },
  ]),
  { name: "lm_head.weight", role: "head", layer: null, shape: [64, COLUMNS] },
];
const program = { weights } as unknown as Program;

function decide(imatrix: Imatrix, request: Partial<PlanRequest> = {}): Plan {
  const sourceOf = ({ name, shape }: WeightSpec) => ({ name, type: "BF16" as const, shape });
  return plan(program, sourceOf, { type: "Q4K", ...request, importance: matchImportance(imatrix, program) });
}
const rowOf = ({ rows }: Plan, name: string) => rows.find(({ tensor }) => tensor === name)!;
const open = (bytes: Uint8Array, name = "matrix") => openImatrix(fromBytes(bytes, name));

/** Any matrix with names that every form can have. */
const anyEntries = fc
  .uniqueArray(
    fc.record({
      name: fc.string({ unit: fc.constantFrom(..."abc._0ü€"), minLength: 1, maxLength: 12 }),
      columns: fc.integer({ min: 1, max: 9 }),
      counts: fc.array(fc.constantFrom(0, 1, 2, 3, 0.5, 1000), { minLength: 1, maxLength: 4 }),
      seed: fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 5 }),
    }),
    { selector: ({ name }) => name, minLength: 1, maxLength: 5 },
  )
  .map((list) => {
    const entries = list.map(({ name, columns, counts, seed }): [string, ImatrixEntry] => {
      const value = (_: unknown, i: number) =>
        counts[Math.floor(i / columns)] === 0 ? 0 : seed[i % seed.length];
      return [
        name,
        {
          sums: Float32Array.from({ length: columns * counts.length }, value),
          counts: counts.map(Math.fround),
        },
      ];
    });
    return new Map(entries);
  });

describe("reading what was written", () => {
  test("GGUF: the same sums, counts and texts, and the same bytes again", async () => {
    const property = fc.asyncProperty(anyEntries, fc.array(fc.string()), async (entries, datasets) => {
      const bytes = await writeImatrixGguf({ entries, datasets, chunks: 3, chunkTokens: 512 });
      const read = await open(bytes);
      expect(read).toEqual({ format: "gguf", entries, datasets, chunks: 3, chunkTokens: 512 });
      expect(await writeImatrixGguf(read)).toEqual(bytes);
    });
    await fc.assert(property, { numRuns: 100, seed: 1 });
  });

  test(".cimatrix: the means, and the same bytes again", async () => {
    const property = fc.asyncProperty(anyEntries, async (entries) => {
      const bytes = writeCimatrix(entries);
      const read = await open(bytes);
      expect(read.format).toBe("cimatrix");
      expect([...read.entries.keys()]).toEqual([...entries.keys()]);
      for (const [name, { sums, counts }] of entries) {
        const columns = sums.length / counts.length;
        const mean = (sum: number, i: number) => {
          const count = counts[Math.floor(i / columns)];
          return count === 0 ? 0 : Math.fround(sum / count);
        };
        expect(read.entries.get(name)).toEqual({ sums: sums.map(mean), counts: [1] });
      }
      expect(writeCimatrix(read.entries)).toEqual(bytes);
    });
    await fc.assert(property, { numRuns: 100, seed: 2 });
  });

  test("what could not be read back is not written", async () => {
    const tag = (name: string) => expect.objectContaining({ tag: name });
    const ones = { sums: Float32Array.of(1), counts: [1] };
    expect(() => writeCimatrix(new Map())).toThrowError(tag("imatrix/count"));
    expect(() => writeCimatrix(new Map([["", ones]]))).toThrowError(tag("imatrix/name"));
    expect(() => writeCimatrix(new Map([["a\n", ones]]))).toThrowError(tag("imatrix/name"));
    const long = new Map([["a".repeat(64), ones]]);
    await expect(writeImatrixGguf({ entries: long, datasets: [] })).rejects.toMatchObject({
      tag: "gguf/name",
    });
  });
});

describe("names", () => {
  test.each(["i1-good.imatrix", "i1-good.gguf", "i1-good.cimatrix", "i1-good-v1.cimatrix"])(
    "%s",
    async (name) => {
      const matrix = await open(fileOf(name));
      const decided = decide(matrix);
      const used = decided.rows.filter(({ importance }) => importance === "used").map(({ tensor }) => tensor);
      expect(used).toEqual([Q]);
      expect(decided.unusedImportance).toEqual([]);
      const value = /imatrix$/.test(name) && matrix.format !== "legacy" ? 1 : 0.5;
      expect(matchImportance(matrix, program).get(Q)).toEqual(new Float32Array(COLUMNS).fill(value));
      expect(rowOf(decided, "lm_head.weight").reason).toBe("no importance was collected for it");
    },
  );

  test("where the texts come from is kept", async () => {
    expect(await open(fileOf("i1-good.imatrix"))).toMatchObject({ datasets: ["text"], chunks: 7 });
    expect(await open(fileOf("i1-good.gguf"))).toMatchObject({ datasets: ["text"], chunks: 7 });
  });

  const matrixOf = (names: Record<string, number>, format: Imatrix["format"] = "gguf"): Imatrix => {
    const entry = (length: number) => ({ sums: Float32Array.from({ length }, (_, i) => i + 1), counts: [1] });
    return {
      format,
      datasets: [],
      entries: new Map(Object.entries(names).map(([name, length]) => [name, entry(length)])),
    };
  };

  test("joined matrices serve their parts; the exact name goes first", () => {
    const joined = matrixOf({
      "blk.0.attn_qkv.weight": COLUMNS,
      "output.weight": COLUMNS,
      "blk.7.attn_q.weight": 1,
    });
    const decided = decide(joined);
    const used = decided.rows.filter(({ importance }) => importance === "used").map(({ tensor }) => tensor);
    expect(used).toEqual([
      ...["q", "k", "v"].map((part) => `model.layers.0.self_attn.${part}_proj.weight`),
      "lm_head.weight",
    ]);
    expect(decided.unusedImportance).toEqual(["blk.7.attn_q.weight"]);
    expect(formatPlan(decided)).toContain("no tensor suits the importance of blk.7.attn_q.weight");
    const both = matrixOf({ "blk.0.attn_qkv.weight": 3, "blk.0.attn_q.weight": COLUMNS });
    expect(rowOf(decide(both), Q).importance).toBe("used");
  });

  test("experts: a vector each, one after the other, or one for all", () => {
    const w = (expert: number) =>
      matchImportance(matrixOf({ "blk.0.ffn_gate_exps.weight": 2 * COLUMNS }), program).get(
        expertName(expert),
      );
    expect(w(0)?.[0]).toBe(1);
    expect(w(1)?.[0]).toBe(COLUMNS + 1);
    expect(w(1)).toHaveLength(COLUMNS);
    const shared = matchImportance(matrixOf({ "blk.0.ffn_gate_exps.weight": COLUMNS }), program);
    expect(shared.get(expertName(0))).toEqual(shared.get(expertName(1)));
    const stacked = matrixOf({ "model.layers.0.block_sparse_moe.experts.w1": 2 * COLUMNS }, "cimatrix");
    expect(matchImportance(stacked, program).get(expertName(1))?.[0]).toBe(COLUMNS + 1);
    const own = matrixOf({ "model.layers.0.block_sparse_moe.experts.1.w1": COLUMNS }, "cimatrix");
    expect([...matchImportance(own, program).keys()]).toEqual([expertName(1)]);
  });

  test("importance becomes entries and comes back the same, whatever experts it lacks", async () => {
    const subset = fc.subarray([...weights.filter(({ role }) => role !== "embedding")], { minLength: 1 });
    const property = fc.asyncProperty(subset, fc.constantFrom("cimatrix", "gguf"), async (chosen, format) => {
      const importance = new Map(
        chosen.map(({ name, shape }, at) => [
          name,
          Float32Array.from({ length: shape[1] }, (_, i) => at + i + 1),
        ]),
      );
      const entries = importanceEntries(importance, program, format as "gguf");
      const bytes =
        format === "gguf" ? await writeImatrixGguf({ entries, datasets: [] }) : writeCimatrix(entries);
      const back = matchImportance(await open(bytes), program);
      for (const { name } of weights) {
        const values = back.get(name);
        if (importance.has(name)) expect(values).toEqual(importance.get(name));
        else expect(values?.every((value) => value === 0) ?? true).toBe(true);
      }
    });
    await fc.assert(property, { numRuns: 60, seed: 3 });
  });

  test("importance that does not suit its weight is not written", () => {
    const wrong = new Map([[Q, new Float32Array(3)]]);
    expect(() => importanceEntries(wrong, program, "gguf")).toThrowError(
      expect.objectContaining({ tag: "importance/length", details: expect.objectContaining({ tensor: Q }) }),
    );
  });
});

describe("the malformed catalogue", () => {
  test.each(Object.entries(expected))("%s: %s", async (name, tag) => {
    const reading = readImatrix(`${FOLDER}/${name}`).then((matrix) => decide(matrix));
    if (tag === "ok") await expect(reading).resolves.toBeDefined();
    else await expect(reading).rejects.toMatchObject({ name: "IsqError", tag });
  });

  test.each<[string, string, RegExp]>([
    ["i3-width.imatrix", Q, /3 values for 256 columns/],
    ["i3-width.gguf", Q, /3 values for 256 columns/],
    ["i4-nan.imatrix", Q, /negative or non-finite/],
    ["i4-nan-v1.cimatrix", Q, /negative or non-finite/],
    ["i4-infinite.imatrix", Q, /negative or non-finite/],
    ["i4-negative.imatrix", Q, /negative or non-finite/],
    ["i5-zeros.imatrix", Q, /all zeros/],
    ["i5-nothing-counted.gguf", Q, /all zeros/],
    ["i6-dead-expert.imatrix", expertName(1), /all zeros/],
    ["i6-dead-expert.gguf", expertName(1), /all zeros/],
    ["i6-dead-expert.cimatrix", expertName(1), /all zeros/],
    ["i6-half-of-experts.imatrix", expertName(0), /768 values for 256 columns/],
  ])("%s: %s is quantized without importance, and the plan says why", async (name, tensor, reason) => {
    const matrix = await open(fileOf(name));
    expect(rowOf(decide(matrix), tensor)).toMatchObject({ importance: "dropped", type: "Q4K" });
    expect(rowOf(decide(matrix), tensor).reason).toMatch(reason);
    expect(() => decide(matrix, { strict: true })).toThrowError(
      expect.objectContaining({ tag: "plan/strict" }),
    );
  });

  test("the other expert keeps its importance; calls of 0 take the values as they are", async () => {
    expect(rowOf(decide(await open(fileOf("i6-dead-expert.gguf"))), expertName(0)).importance).toBe("used");
    const zero = await open(fileOf("i8-calls-zero.imatrix"));
    expect(matchImportance(zero, program).get(Q)?.[0]).toBe(1);
  });
});

describe("hostile bytes", () => {
  const survive = async (bytes: Uint8Array): Promise<"value" | "refused"> => {
    try {
      decide(await open(bytes, "hostile"));
      return "value";
    } catch (error) {
      if (!isIsqError(error)) throw error;
      return "refused";
    }
  };
  const names = ["i1-good.imatrix", "i1-good.gguf", "i1-good.cimatrix", "i1-good-v1.cimatrix"];

  test.each(names)("%s cut at every byte", async (name) => {
    const bytes = fileOf(name);
    expect(await survive(bytes)).toBe("value");
    const legal = new Set(name === "i1-good.imatrix" ? [bytes.length - 12, bytes.length - 8] : []);
    for (let end = 0; end < bytes.length; end++) {
      // GGUF files end with padding that nobody needs.
      const padding = name.endsWith(".gguf") && end > bytes.length - 32 && end >= bytes.length - 28;
      const wanted = legal.has(end) || padding ? "value" : "refused";
      expect(await survive(bytes.subarray(0, end)), String(end)).toBe(wanted);
    }
  });

  test.each(names)("%s with bytes changed, taken out or put in", async (name) => {
    const bytes = fileOf(name);
    const edit = fc.record({
      at: fc.oneof(fc.nat(Math.min(160, bytes.length - 1)), fc.nat(bytes.length - 1)),
      remove: fc.nat(3),
      insert: fc.uint8Array({ maxLength: 3 }),
    });
    const property = fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
      let changed = [...bytes];
      for (const { at, remove, insert } of edits) {
        changed = [...changed.slice(0, at), ...insert, ...changed.slice(at + remove)];
      }
      await survive(Uint8Array.from(changed));
    });
    await fc.assert(property, { numRuns: 400, seed: 23 });
  });
});

describe("a model", () => {
  test("is quantized with the matrix of a file, tensor by tensor as quantize() does", async () => {
    const rules: TopologyRule[] = [{ pattern: /layers\.0\.self_attn\.[qk]_proj/, isq: "Q4K" }];
    const opened = await new TextModelBuilder(MODEL).withTopology(rules).plan();
    const importance = new Map(
      opened.rows
        .filter(({ algorithm }) => algorithm !== null)
        .map(({ tensor, shape }, at) => [
          tensor,
          Float32Array.from({ length: shape[1] }, (_, i) => 1 + ((i * 7 + at) % 13) ** 2),
        ]),
    );
    const fake = {
      weights: opened.rows.map(({ tensor, shape, role, layer }) => ({ name: tensor, shape, role, layer })),
    };
    const entries = importanceEntries(importance, fake as unknown as Program, "gguf");
    const file = new Blob([(await writeImatrixGguf({ entries, datasets: ["none"] })) as BlobPart]);
    const builder = () => new TextModelBuilder(MODEL).withBackend(reference()).withTopology(rules);
    const byFile = await builder().withImatrix(file).build({ measureError: true });
    const byCode = await builder().withImportance(importance).build({ measureError: true });
    const without = await builder().build({ measureError: true });
    expect(byFile.plan.hash).toBe(byCode.plan.hash);
    expect(byFile.plan.rows.filter((row) => row.importance === "used").length).toBe(2);
    const errors = (model: typeof byFile) => model.report.tensors.map(({ error }) => error?.rmse);
    expect(errors(byFile)).toEqual(errors(byCode));
    expect(errors(byFile)).not.toEqual(errors(without));
    for (const model of [byFile, byCode, without]) await model.dispose();
  });

  test("importance without anything to quantize is refused", async () => {
    const builder = new TextModelBuilder(MODEL).withImatrix(`${FOLDER}/i1-good.imatrix`);
    await expect(builder.plan()).rejects.toMatchObject({
      tag: "plan/nothing",
      details: { field: "importance" },
    });
  });
});
