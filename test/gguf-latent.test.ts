/** Files whose keys and values of latent attention are split: the matrix that they were made of is what the model gets. */

import { describe, expect, test } from "vitest";
import { openModel } from "../src/load.js";
import { plan } from "../src/plan.js";
import { dequantize, quantize } from "../src/quants/index.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { splitLatent } from "./gguf-latent-support.js";
import { expectSame, ggufDirectory, toGguf } from "./gguf-support.js";

const NAME = "model.layers.1.self_attn.kv_b_proj.weight";
const opened = makeCheckpoint("deepseekv3").then((directory) => openModel(directory));
const open = async (bytes: Uint8Array) => openModel(ggufDirectory(bytes), { gguf: "model.gguf" });

describe.each(["F32", "F16", "BF16"] as const)("%s", (dense) => {
  const whole = opened.then((model) => toGguf(model, { dense }));

  test("has the same matrices, and is written as the file that was split", async () => {
    const [a, b] = [await open(await whole), await open(await splitLatent(await whole))];
    expect(b.program).toEqual(a.program);
    expect(b.checkpoint.tensors.get(NAME)).toMatchObject({ dtype: dense, shape: [512, 256] });
    for (const name of [NAME, NAME.replace("1", "0")]) {
      expectSame(await b.checkpoint.read(name), await a.checkpoint.read(name));
    }
    expectSame(await toGguf(b), await toGguf(a));
    expect(b.checkpoint.locate(NAME)).toBeNull();
  });

  test("reads any range", async () => {
    const { checkpoint } = await open(await splitLatent(await whole));
    const all = await checkpoint.read(NAME);
    const head = all.byteLength / 4;
    for (const [start, end] of [
      [0, 0],
      [3, 5],
      [head - 1, head + 1],
      [head, 3 * head],
      [7, all.byteLength],
    ]) {
      expectSame(await checkpoint.readRange(NAME, start, end), all.slice(start, end));
    }
    await expect(checkpoint.readRange(NAME, 0, all.byteLength + 1)).rejects.toMatchObject({
      tag: "source/range",
    });
  });
});

test("quantized halves become one F32 matrix, and can be quantized again", async () => {
  const whole = await toGguf(await opened, { dense: "F32" });
  const model = await open(await splitLatent(whole, "Q8_0"));
  expect(model.checkpoint.tensors.get(NAME)!.dtype).toBe("F32");
  const values = new Float32Array((await model.checkpoint.read(NAME)).slice().buffer);
  const original = new Float32Array((await (await open(whole)).checkpoint.read(NAME)).slice().buffer);
  const coded = (x: Float32Array) => dequantize(quantize("Q8_0", x, { shape: [x.length] }));
  for (let head = 0; head < 4; head++) {
    const start = head * 128 * 256;
    // Rows of a value are blocks of the file; of a key, columns are.
    expectSame(
      values.subarray(start + 64 * 256, start + 128 * 256),
      coded(original.slice(start + 64 * 256, start + 128 * 256)),
    );
    const column = (x: Float32Array) =>
      Float32Array.from({ length: 64 }, (_, row) => x[start + row * 256 + 17]);
    expectSame(column(values), coded(column(original)));
  }
  const { rows } = plan(model.program, model.sourceOf, { type: "Q4K" });
  expect(rows.find(({ tensor }) => tensor === NAME)).toMatchObject({ type: "Q4K" });
});

test.each<[string, string, RegExp, () => number[] | null]>([
  ["without values", "tensor/missing", /attn_v_b/, () => null],
  ["values of another rank", "gguf/shape", /attn_v_b/, () => [4, 128, 128]],
  ["values of fewer heads", "gguf/shape", /attn_v_b/, () => [2, 128, 256]],
  ["values in one matrix", "gguf/shape", /attn_v_b/, () => [256, 256]],
])("%s are refused", async (_, tag, pattern, shapeOf) => {
  const whole = await toGguf(await opened, { dense: "F32" });
  const bytes = await splitLatent(whole, undefined, (piece) => {
    if (!pattern.test(piece.name)) return piece;
    const shape = shapeOf();
    return shape && { ...piece, shape };
  });
  await expect(open(bytes)).rejects.toMatchObject({
    tag,
    details: { file: "gguf/model.gguf", tensor: expect.stringMatching(pattern) },
  });
});

test("halves of a type that cannot be decoded are refused", async () => {
  const whole = await toGguf(await opened, { dense: "F32" });
  const bytes = await splitLatent(whole, undefined, (piece) =>
    piece.name.includes("attn_k_b") ? { ...piece, type: "I32" } : piece,
  );
  await expect(open(bytes)).rejects.toMatchObject({ tag: "gguf/type", details: { value: "I32" } });
});
