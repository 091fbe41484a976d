/** Importance collected here: the same file everywhere, the same numbers in every form, and what quantizing gains from it. */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Backend } from "../src/backends/backend.js";
import { reference } from "../src/backends/reference.js";
import { threads } from "../src/backends/threads.js";
import { wasm } from "../src/backends/wasm.js";
import {
  type CollectedImportance,
  collectImportance,
  encodeImatrix,
  importanceOfCollected,
} from "../src/calibrate.js";
import { widen } from "../src/dense.js";
import { meansOf } from "../src/files/imatrix.js";
import { fromBytes, matchImportance, openImatrix, TextModelBuilder } from "../src/index.js";
import { openModel } from "../src/load.js";
import { LanguageModel } from "../src/model/language-model.js";
import { openDirectory } from "../src/node/directory.js";
import { placeModel } from "../src/place.js";
import { plan } from "../src/plan.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { tinyModel } from "./fixtures/tiny-model.js";

const CHUNKS = [
  [1, 5, 9, 33, 200, 7, 7, 90],
  [1, 44, 3],
];

async function openFixture(backend: Backend, promptRows?: number, name = "llama") {
  const { program, checkpoint, sourceOf } = await openModel(await makeCheckpoint(name));
  const options = { cachePositions: 128, ...(promptRows !== undefined && { promptRows }) };
  const session = await backend.open(program, options);
  await placeModel(plan(program, sourceOf, { type: null }), checkpoint, backend, session);
  await checkpoint.close();
  return new LanguageModel(program, session, options);
}

async function collectOn(backend: Backend, promptRows?: number, name?: string): Promise<CollectedImportance> {
  const language = await openFixture(backend, promptRows, name);
  const collected = await collectImportance(language, CHUNKS, 8);
  await language.dispose();
  await backend.dispose();
  return collected;
}

describe("collecting", () => {
  let expected: CollectedImportance;
  beforeAll(async () => {
    expected = await collectOn(reference());
  });

  it("counts every token of every chunk for every linear and the head", () => {
    expect(expected.entries.size).toBe(2 * 7 + 1);
    for (const { counts } of expected.entries.values()) expect(counts).toEqual([11]);
    // Queries, keys and values have the same inputs; gate and up as well.
    const sumsOf = (part: string) => expected.entries.get(`model.layers.1.${part}.weight`)!.sums;
    expect(sumsOf("self_attn.q_proj")).toEqual(sumsOf("self_attn.v_proj"));
    expect(sumsOf("mlp.gate_proj")).toEqual(sumsOf("mlp.up_proj"));
    expect(sumsOf("self_attn.o_proj")).not.toEqual(sumsOf("self_attn.q_proj"));
  });

  it.each([
    ["wasm", wasm, undefined],
    ["reference, three rows a step", reference, 3],
    ["threads, 1 worker", () => threads({ workers: 1 }), 5],
    ["threads, 3 workers", () => threads({ workers: 3 }), undefined],
  ] as const)("gives the same bits on %s", async (_name, make, promptRows) => {
    expect(await collectOn(await make(), promptRows)).toEqual(expected);
  });

  it("ends when it is aborted, and observes nothing afterwards", async () => {
    const language = await openFixture(reference());
    const abort = new AbortController();
    const options = { signal: abort.signal, onProgress: () => abort.abort() };
    await expect(collectImportance(language, CHUNKS, 8, options)).rejects.toMatchObject({ tag: "aborted" });
    expect(await collectImportance(language, CHUNKS, 8)).toEqual(expected);
    await language.dispose();
  });

  it("is refused by a backend that cannot observe", async () => {
    const inner = reference();
    const blind: Backend = {
      ...inner,
      async open(program, options) {
        const { observe: _, ...session } = await inner.open(program, options);
        return session;
      },
    };
    const refused = openFixture(blind).then((language) => collectImportance(language, CHUNKS, 8));
    await expect(refused).rejects.toMatchObject({ tag: "option/unsupported" });
  });

  it("can be written in every form, and is read back as the same numbers", async () => {
    const { program } = await openModel(await makeCheckpoint("llama"));
    const about = { ...expected, datasets: ["a text"], chunks: 2, chunkTokens: 8 };
    const importance = importanceOfCollected(expected);
    for (const format of ["cimatrix", "gguf", "legacy"] as const) {
      const matrix = await openImatrix(fromBytes(await encodeImatrix(about, program, format)));
      expect(matrix.format).toBe(format);
      expect(matchImportance(matrix, program)).toEqual(importance);
      if (format !== "cimatrix") expect([matrix.datasets, matrix.chunks]).toEqual([["a text"], 2]);
    }
    const gguf = await openImatrix(fromBytes(await encodeImatrix(about, program, "gguf")));
    const { sums, counts } = gguf.entries.get("blk.1.ffn_down.weight")!;
    expect({ sums, counts }).toEqual(expected.entries.get("model.layers.1.mlp.down_proj.weight"));
  });
});

describe("mixtures of experts", () => {
  const LAYER = "model.layers.0.block_sparse_moe";

  it("are counted expert by expert, and files join them", async () => {
    const expected = await collectOn(reference(), undefined, "mixtral");
    expect(expected.entries.has(`${LAYER}.gate.weight`)).toBe(false); // routers are never quantized
    const countOf = (expert: number, part = "w1") =>
      expected.entries.get(`${LAYER}.experts.${expert}.${part}.weight`)?.counts[0] ?? 0;
    const counts = [0, 1, 2, 3].map((expert) => countOf(expert));
    expect(counts.reduce((sum, count) => sum + count)).toBe(2 * 11); // each token goes to two
    expect([0, 1, 2, 3].map((expert) => countOf(expert, "w2"))).toEqual(counts);
    for (const backend of [await wasm(), await threads({ workers: 2 })]) {
      expect(await collectOn(backend, 5, "mixtral")).toEqual(expected);
    }

    const { program } = await openModel(await makeCheckpoint("mixtral"));
    const about = { ...expected, datasets: [], chunks: 2, chunkTokens: 8 };
    const gguf = await openImatrix(fromBytes(await encodeImatrix(about, program, "gguf")));
    expect(gguf.entries.get("blk.0.ffn_down_exps.weight")).toMatchObject({ counts });
    const importance = importanceOfCollected(expected);
    for (const format of ["cimatrix", "gguf", "legacy"] as const) {
      const read = matchImportance(
        await openImatrix(fromBytes(await encodeImatrix(about, program, format))),
        program,
      );
      for (const [name, values] of importance) expect(read.get(name), name).toEqual(values);
    }
  });

  it("give experts that saw nothing no importance, which the plan says", async () => {
    const backend = await wasm();
    const language = await openFixture(backend, undefined, "mixtral");
    const collected = await collectImportance(language, [[1, 2]], 1); // at most four of the eight experts
    const { program, sourceOf } = await openModel(await makeCheckpoint("mixtral"));
    const decided = plan(program, sourceOf, { type: "Q4K", importance: importanceOfCollected(collected) });
    const experts = decided.rows.filter(
      ({ role, tensor }) => role === "expert" && tensor.includes("layers.0"),
    );
    const unseen = experts.filter(({ importance }) => importance === "none");
    expect(unseen.length % 3).toBe(0);
    for (const { tensor, reason } of experts) {
      const seen = collected.entries.has(tensor);
      expect([tensor, reason]).toEqual([tensor, seen ? null : "no importance was collected for it"]);
    }
    await language.dispose();
    await backend.dispose();
  });
});

const TEXT = "The database connection is not invoked by the transaction. ".repeat(6);
const folder = mkdtempSync(join(tmpdir(), "isq-calibrate-"));
const textFile = join(folder, "text.txt");
writeFileSync(textFile, TEXT);
const TOKENS = [1, 483, 810, 1667, 328, 416];

describe("withCalibrationFile", () => {
  const builder = () => new TextModelBuilder(tinyModel()).withIsq("Q4_0").withBackend("wasm");
  const collect = async () => {
    const model = await new TextModelBuilder(tinyModel()).build();
    const collected = await model.collectImportance(TEXT);
    const file = await model.encodeImatrix(collected, "cimatrix");
    await model.dispose();
    return { collected, file: new Blob([file as BlobPart]) };
  };

  it("collects on the unquantized model and quantizes: as with the file that collecting gives", async () => {
    const { collected, file } = await collect();
    expect(collected.chunkTokens).toBe(63); // what its context of 64 holds beside the BOS
    const given = await builder().withImatrix(file).build();
    const told: number[] = [];
    const options = { onCalibration: ({ done }: { done: number }) => told.push(done) };
    const made = await builder().withCalibrationFile(textFile).build(options);
    expect(told).toEqual(Array.from({ length: collected.chunks }, (_, i) => i + 1));
    expect(await made.logits(TOKENS)).toEqual(await given.logits(TOKENS));
    expect(made.plan.hash).toBe(given.plan.hash);
    expect(made.plan.hash).toBe((await builder().withCalibrationFile(textFile).plan()).hash);
    expect(made.report.tensors.map(({ tensor }) => tensor)).toEqual(
      made.plan.rows.map(({ tensor }) => tensor),
    );
    const plain = await builder().build();
    expect(await made.logits(TOKENS)).not.toEqual(await plain.logits(TOKENS));
    for (const model of [given, made, plain]) await model.dispose();
  });

  it("also when the model is saved", async () => {
    const { file } = await collect();
    const paths = ["a", "b"].map((name) => join(folder, `${name}.safetensors`));
    await builder().withCalibrationFile(textFile).save(paths[0]);
    await builder().withImatrix(file).save(paths[1]);
    const [a, b] = paths.map((path) => readFileSync(path));
    expect(Buffer.compare(a, b)).toBe(0);
  });

  it("excludes other importance, and needs something to quantize", async () => {
    const conflict = { tag: "option/conflict", details: { field: "calibrationFile" } };
    const both = builder().withCalibrationFile(textFile);
    await expect(both.withImatrix(join(folder, "none")).plan()).rejects.toMatchObject(conflict);
    await expect(
      builder().withCalibrationFile(textFile).withImportance(new Map()).build(),
    ).rejects.toMatchObject(conflict);
    const nothing = new TextModelBuilder(tinyModel()).withCalibrationFile(textFile);
    await expect(nothing.build()).rejects.toMatchObject({ tag: "plan/nothing" });
    const missing = builder().withCalibrationFile(join(folder, "missing.txt"));
    await expect(missing.build()).rejects.toMatchObject({ tag: "source/open" });
    const bytes = builder().withCalibrationFile(new Blob([Uint8Array.of(0xff, 0xfe)]));
    await expect(bytes.build()).rejects.toMatchObject({ tag: "source/format" });
  });
});

describe("live texts", () => {
  it("are counted from the beginning to the end, and what they gave is applied", async () => {
    const model = await new TextModelBuilder(tinyModel()).withIsq("Q5_1").withBackend("wasm").build();
    const nothing = { collecting: false, layers: 8, layersTracking: 0, totalRows: 0, minRows: 0, maxRows: 0 };
    expect(model.calibrationStatus).toEqual(nothing);
    await expect(model.applyCalibration()).rejects.toMatchObject({ tag: "calibration/none" });
    await model.beginCalibration();
    await expect(model.beginCalibration()).rejects.toMatchObject({ tag: "option/conflict" });
    await expect(model.applyCalibration()).rejects.toMatchObject({ tag: "calibration/none" });
    const { tokens } = await model.generate({ tokens: TOKENS, maxTokens: 5 });
    // Each token but the last ran; the head saw the last of the prompt and those that followed.
    const rows = TOKENS.length + tokens.length - 1;
    expect(model.calibrationStatus).toEqual({
      collecting: true,
      layers: 8,
      layersTracking: 8,
      totalRows: 7 * rows + tokens.length,
      minRows: tokens.length,
      maxRows: rows,
    });
    const report = await model.applyCalibration();
    expect(report.tensors).toHaveLength(8);
    expect(report.plan.rows.filter(({ importance }) => importance === "used")).toHaveLength(8);
    expect(model.calibrationStatus).toEqual(nothing);
    const importance = new Map([...report.collected.entries].map(([name, entry]) => [name, meansOf(entry)]));
    const given = new TextModelBuilder(tinyModel()).withIsq("Q5_1").withImportance(importance);
    const other = await given.withBackend("wasm").build();
    expect(await model.logits(TOKENS)).toEqual(await other.logits(TOKENS));

    // It stays in force.
    await model.reIsq("Q4_1");
    await other.reIsq("Q4_1");
    expect(model.plan.rows.every(({ importance }) => importance !== "dropped")).toBe(true);
    expect(await model.logits(TOKENS)).toEqual(await other.logits(TOKENS));

    await model.beginCalibration();
    await model.logits(TOKENS);
    const dropped = await model.endCalibration();
    expect(dropped!.entries.get("lm_head.weight")!.counts).toEqual([TOKENS.length]);
    expect(await model.endCalibration()).toBeNull();
    await model.dispose();
    await other.dispose();
  });

  it("of an unquantized model cannot be applied, and go on being counted", async () => {
    const model = await new TextModelBuilder(tinyModel()).build();
    await model.beginCalibration();
    await model.logits(TOKENS);
    await expect(model.applyCalibration()).rejects.toMatchObject({ tag: "plan/nothing" });
    expect(model.calibrationStatus.collecting).toBe(true);
    await model.dispose();
  });
});

/** Σ i·e² of each tensor of tiny-mistral, quantized to a type with importance or without. */
describe("the importance-weighted error of every tensor of tiny-mistral", () => {
  const importance = collectTiny();

  it.each(["Q2K", "Q3K"])("falls with importance: %s", async (type) => {
    const errors = await Promise.all([true, false].map((used) => weightedErrors(type, used)));
    const [less, more] = errors;
    expect(less.size).toBe(43);
    for (const [tensor, error] of less) expect(error, tensor).toBeLessThan(more.get(tensor)!);
  });

  async function collectTiny() {
    const model = await new TextModelBuilder("models/tiny-mistral").build();
    const text = readFileSync("models/text/calibration.txt", "utf8");
    const collected = await model.collectImportance(text, { maxChunks: 1 });
    await model.dispose();
    return importanceOfCollected(collected);
  }

  async function weightedErrors(type: string, used: boolean): Promise<Map<string, number>> {
    const backend = await threads({ workers: 2 });
    const { program, checkpoint, sourceOf } = await openModel(await openDirectory("models/tiny-mistral"));
    const errors = new Map<string, number>();
    const means = await importance;
    const request = { type: type as "Q2K", ...(used && { importance: means }) };
    for (const row of plan(program, sourceOf, request).rows) {
      if (row.algorithm === null) continue;
      const own = means.get(row.tensor)!;
      const { type: from, shape } = row.source;
      const values = widen({ type: from as "BF16", shape, data: await checkpoint.read(row.source.name) });
      const tensor = await backend.quantize(request.type, values, {
        shape,
        ...(row.importance === "used" && { importance: own }),
      });
      const decoded = await backend.dequantize(tensor);
      let error = 0;
      for (let i = 0; i < values.length; i++) error += own[i % own.length] * (decoded[i] - values[i]) ** 2;
      errors.set(row.tensor, error);
    }
    await checkpoint.close();
    await backend.dispose();
    return errors;
  }
});
