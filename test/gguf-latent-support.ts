/** Files of deepseek2 as llama.cpp's converter writes them since 2025: keys and values of latent attention split per head. */

import type { DenseTensor } from "../src/backends/backend.js";
import { narrow, widen } from "../src/dense.js";
import { openGguf } from "../src/files/gguf.js";
import type { GgufValue } from "../src/files/gguf-values.js";
import { type GgufTensorSpec, layoutGguf, toBytes, writeGguf } from "../src/files/gguf-write.js";
import { fromBytes } from "../src/files/source.js";
import { type IsqType, quantize } from "../src/quants/index.js";

interface Piece extends GgufTensorSpec {
  readonly data: Uint8Array;
}

/**
 * Splits `attn_kv_b` of a dense file. `type` quantizes both halves; `change` may alter the pieces.
 */
export async function splitLatent(
  bytes: Uint8Array,
  type?: IsqType,
  change: (piece: Piece) => Piece | null = (piece) => piece,
): Promise<Uint8Array> {
  const file = await openGguf(fromBytes(bytes));
  const number = (key: string) => (file.metadata.get(`deepseek2.${key}`) as { value: number }).value;
  const heads = number("attention.head_count");
  const [key, value] = [number("attention.key_length"), number("attention.value_length")];
  const [rank, rotary] = [number("attention.kv_lora_rank"), number("rope.dimension_count")];
  const metadata = new Map<string, GgufValue>(file.metadata);
  const set = (name: string, value: number) => metadata.set(`deepseek2.${name}`, { type: "u32", value });
  set("attention.head_count_kv", 1);
  set("attention.key_length", rank + rotary);
  set("attention.value_length", rank);
  set("attention.key_length_mla", key);
  set("attention.value_length_mla", value);

  const pieces: Piece[] = [];
  for (const { name, dtype, shape } of file.tensors.values()) {
    const data = await file.read(name);
    if (!name.includes("attn_kv_b")) {
      pieces.push({ name, type: dtype, shape, data });
      continue;
    }
    const whole = widen({ type: dtype, shape, data } as DenseTensor);
    const plain = key - rotary;
    const rowOf = (head: number, row: number) => (head * (plain + value) + row) * rank;
    const keys = new Float32Array(heads * rank * plain);
    const values = new Float32Array(heads * value * rank);
    for (let head = 0; head < heads; head++) {
      for (let row = 0; row < plain; row++) {
        for (let i = 0; i < rank; i++) {
          keys[(head * rank + i) * plain + row] = whole[rowOf(head, row) + i];
        }
      }
      const own = whole.subarray(rowOf(head, plain), rowOf(head, plain + value));
      values.set(own, head * value * rank);
    }
    const add = (half: string, shape: readonly number[], values: Float32Array) => {
      const columns = shape[shape.length - 1];
      const data = type
        ? quantize(type, values, { shape: [values.length / columns, columns] }).data
        : narrow(values, dtype as "F32");
      pieces.push({ name: name.replace("kv_b", half), type: type ?? dtype, shape, data });
    };
    add("k_b", [heads, rank, plain], keys);
    add("v_b", [heads, value, rank], values);
  }
  const changed = pieces.map(change).filter((piece) => piece !== null);
  const layout = layoutGguf(metadata, changed);
  const sink = toBytes(layout.byteLength);
  await writeGguf(layout, (_, index) => changed[index].data, sink);
  return sink.bytes;
}
