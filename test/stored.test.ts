/** Weights that checkpoints store otherwise than programs have them, and checkpoints that lack or misshape some. */

import { readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend } from "../src/backends/backend.js";
import { threads } from "../src/backends/threads.js";
import { wasm } from "../src/backends/wasm.js";
import type { Directory } from "../src/files/directory.js";
import { toBytes } from "../src/files/gguf-write.js";
import { type SafetensorsTensor, writeSafetensors } from "../src/files/safetensors.js";
import { openModel } from "../src/load.js";
import { transposeMatrix } from "../src/model/gguf/rows.js";
import { type PlanRequest, plan } from "../src/plan.js";
import { planSafetensorsSave } from "../src/safetensors-export.js";
import { saveModel } from "../src/save.js";
import { makeTensors, readConfig, toDirectory } from "./fixtures/architecture.js";
import { bits, differingBits, openLanguageModel, placeFolder } from "./model/support.js";

const FIXTURES = readdirSync(new URL("./fixtures/architectures", import.meta.url));
const TOKENS = Array.from({ length: 12 }, (_, i) => (i * 37 + 11) % 256);

async function directoryOf(name: string, tensors: readonly SafetensorsTensor[]): Promise<Directory> {
  const files = {
    "config.json": JSON.stringify(await readConfig(name)),
    "model.safetensors": writeSafetensors(tensors),
  };
  return toDirectory(files, name);
}

async function logitsOf(directory: Directory): Promise<Float32Array> {
  const { model } = await openLanguageModel(directory);
  return model.logits(TOKENS);
}

/** One stack of matrices of one shape, as [entries, rows, columns]; the rows of several after each other. */
function stack(name: string, entries: readonly SafetensorsTensor[][]): SafetensorsTensor {
  const rows = entries[0].reduce((sum, { shape }) => sum + shape[0], 0);
  const parts = entries.flat().map(({ data }) => data);
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return { name, dtype: entries[0][0].dtype, shape: [entries.length, rows, entries[0][0].shape[1]], data };
}

/** The experts of every layer in two stacks. */
function stacked(tensors: readonly SafetensorsTensor[]): SafetensorsTensor[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const others = tensors.filter(({ name }) => !name.includes(".experts."));
  const places = new Set(tensors.flatMap(({ name }) => /^.*\.experts(?=\.0\.)/.exec(name)?.[0] ?? []));
  for (const at of places) {
    const experts = [...byName.keys()].filter((name) => name.startsWith(`${at}.`)).length / 3;
    const of = (expert: number, part: string) => byName.get(`${at}.${expert}.${part}.weight`)!;
    const all = Array.from({ length: experts }, (_, expert) => expert);
    others.push(
      stack(
        `${at}.gate_up_proj`,
        all.map((expert) => [of(expert, "gate_proj"), of(expert, "up_proj")]),
      ),
      stack(
        `${at}.down_proj`,
        all.map((expert) => [of(expert, "down_proj")]),
      ),
    );
  }
  return others;
}

describe("gpt2, whose projections are stored [inputs, outputs]", () => {
  let wanted: Uint32Array;
  let tensors: SafetensorsTensor[];
  beforeAll(async () => {
    tensors = await makeTensors("gpt2");
    wanted = bits(await logitsOf(await directoryOf("gpt2", tensors)));
  });

  test("without `transformer.` in front of its names", async () => {
    const renamed = tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace("transformer.", "") }));
    expect(differingBits(await logitsOf(await directoryOf("gpt2", renamed)), wanted)).toBe(0);
  });

  test("in any ranges of rows", async () => {
    const { checkpoint, program } = await openModel(await directoryOf("gpt2", tensors));
    const { name, shape } = program.weights.find(({ shape }) => shape[0] === 768 && shape.length === 2)!;
    const stored = tensors.find((tensor) => tensor.name === name)!;
    expect(stored.shape).toEqual([...shape].reverse());
    const whole = await checkpoint.read(name);
    expect(Buffer.compare(transposeMatrix(whole, 768, 256, 2), stored.data)).toBe(0);
    expect(Buffer.compare(await checkpoint.readRange(name, 512, 2048), whole.subarray(512, 2048))).toBe(0);
    expect(checkpoint.locate(name)).toBeNull();
  });

  test.each([
    ["as it is", { type: null }],
    ["quantized but for some", { type: "Q8_0", topology: [{ pattern: /c_proj/, isq: "none" }] }],
  ] as [string, PlanRequest][])("saved %s and opened again", async (_title, request) => {
    const opened = await openModel(await directoryOf("gpt2", tensors));
    const decided = plan(opened.program, opened.sourceOf, request);
    const file = planSafetensorsSave(decided, { format: "pt" });
    const sink = toBytes(file.byteLength);
    const backend = await wasm();
    await saveModel(file, decided, opened.checkpoint, backend, sink);
    const config = JSON.stringify(await readConfig("gpt2"));
    const saved = toDirectory({ "config.json": config, "model.safetensors": sink.bytes });
    if (request.type === null) expect(differingBits(await logitsOf(saved), wanted)).toBe(0);
    const again = await openModel(saved);
    const kept = plan(again.program, again.sourceOf, { type: null });
    const rows = new Map(kept.rows.map((row) => [row.tensor, row]));
    for (const { tensor, type, role } of decided.rows) {
      const row = rows.get(tensor)!;
      expect(row.type).toBe(type);
      if (role !== "linear") continue;
      const [before, after] = [opened.checkpoint, again.checkpoint].map((one) => one.read(row.source.name));
      if (type === "BF16") expect(Buffer.compare(await before, await after)).toBe(0);
    }
  });
});

describe.each(["qwen3moe", "deepseekv2"])("%s with its experts in stacks", (name) => {
  let folder: string;
  let backend: Backend;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "isq-stacks-"));
    backend = await threads({ workers: 2 });
  });
  afterAll(async () => {
    await backend?.dispose();
    await rm(folder, { recursive: true });
  });

  test("gives the bits of single experts, in memory and from workers that read slices of the file", async () => {
    const tensors = await makeTensors(name);
    const single = await directoryOf(name, tensors);
    const stacks = stacked(tensors);
    expect(stacks.some(({ name }) => name.includes(".experts.0."))).toBe(false);
    const wanted = bits(await logitsOf(single));
    expect(differingBits(await logitsOf(await directoryOf(name, stacks)), wanted)).toBe(0);

    await writeFile(join(folder, "config.json"), JSON.stringify(await readConfig(name)));
    await writeFile(join(folder, "model.safetensors"), writeSafetensors(stacks));
    const inFile = await placeFolder(folder, backend, null);
    expect(differingBits(await inFile.model.logits(TOKENS), wanted)).toBe(0);
    await inFile.model.dispose();
    const quantized = await placeFolder(folder, backend, "Q8_0");
    const inMemory = await openLanguageModel(single, { type: "Q8_0" });
    const expected = bits(await inMemory.model.logits(TOKENS));
    expect(differingBits(await quantized.model.logits(TOKENS), expected)).toBe(0);
    await quantized.model.dispose();
  });

  test("refuses stacks of another shape, with both shapes", async () => {
    const stacks = stacked(await makeTensors(name)).map((tensor) =>
      tensor.name.endsWith("gate_up_proj") ? { ...tensor, shape: [8, 256, 512] } : tensor,
    );
    const refusal = openModel(await directoryOf(name, stacks));
    await expect(refusal).rejects.toThrow(/\[8, 256, 512\].*\[8, 512, 256\]/);
    await expect(refusal).rejects.toMatchObject({ tag: "tensor/shape" });
  });
});

describe.each(FIXTURES)("%s", (name) => {
  test("names the tensor that is missing, and both shapes of one that is wrong", async () => {
    const tensors = await makeTensors(name);
    const { program } = await openModel(await directoryOf(name, tensors));
    // The embedding may stand in for the head, and has to be there all the more.
    const chosen = program.weights.filter(
      ({ name, role }, i) => i % 7 === 3 || role === "embedding" || /experts\.1|kv_b|k_norm/.test(name),
    );
    for (const { name: weight, tiedTo } of chosen.slice(0, 8)) {
      const stored = tiedTo ?? weight;
      const without = tensors.filter((tensor) => tensor.name !== stored);
      await expect(openModel(await directoryOf(name, without))).rejects.toMatchObject({
        tag: "tensor/missing",
        details: { tensor: expect.stringMatching(/./) },
      });
      const wrong = tensors.map((tensor) =>
        tensor.name === stored ? { ...tensor, shape: [...tensor.shape, 1] } : tensor,
      );
      const error = await openModel(await directoryOf(name, wrong)).catch((error) => error);
      expect(error.tag).toBe("tensor/shape");
      const shape = tensors.find((tensor) => tensor.name === stored)!.shape;
      expect(error.message).toContain(`[${[...shape, 1].join(", ")}]`);
      expect(error.message).toContain(`must be [${shape.join(", ")}]`);
      expect(error.message).toContain(stored);
    }
  });
});
