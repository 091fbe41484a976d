// A Llama of about 200 million parameters with random weights, as files: for speed, not for text. It is written as bf16
// GGUF with the smallest tokenizer that llama.cpp takes, and quantized by this package.
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { layoutGguf, writeGguf } from "../../dist/files/gguf-write.js";
import { TextModelBuilder } from "../../dist/index.js";

/** Files stay here from run to run (`out` is not under version control). */
const folder = fileURLToPath(new URL("../../out/bench/", import.meta.url));

export const SIZE = {
  layers: 12,
  width: 1024,
  hidden: 2816,
  heads: 16,
  kvHeads: 4,
  vocabulary: 32000,
  context: 2048,
};

/** Behind the special tokens and the bytes of the vocabulary follow the words "0", "1", "2" …, one token each. */
export const FIRST_WORD = 259;

function* tensorsOf({ layers, width, hidden, heads, kvHeads, vocabulary }) {
  const kv = (width / heads) * kvHeads;
  const matrix = (name, rows, columns) => ({ name: `${name}.weight`, type: "BF16", shape: [rows, columns] });
  const norm = (name) => ({ name: `${name}.weight`, type: "F32", shape: [width] });
  yield matrix("token_embd", vocabulary, width);
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}`;
    yield norm(`${block}.attn_norm`);
    yield matrix(`${block}.attn_q`, width, width);
    yield matrix(`${block}.attn_k`, kv, width);
    yield matrix(`${block}.attn_v`, kv, width);
    yield matrix(`${block}.attn_output`, width, width);
    yield norm(`${block}.ffn_norm`);
    yield matrix(`${block}.ffn_gate`, hidden, width);
    yield matrix(`${block}.ffn_up`, hidden, width);
    yield matrix(`${block}.ffn_down`, width, hidden);
  }
  yield norm("output_norm");
  yield matrix("output", vocabulary, width);
}

/** Weights that ISQ quantizes; the embedding is none of them. */
export function countWeights(size = SIZE) {
  const counts = [...tensorsOf(size)].map(({ name, shape }) => [
    name,
    shape.reduce((product, n) => product * n, 1),
  ]);
  const sum = (keep) => counts.filter(([name]) => keep(name)).reduce((total, [, count]) => total + count, 0);
  return {
    parameters: sum(() => true),
    perToken: sum((name) => !/token_embd|norm/.test(name)),
  };
}

function metadataOf({ layers, width, hidden, heads, kvHeads, vocabulary, context }) {
  const text = (value) => ({ type: "string", value });
  const count = (value) => ({ type: "u32", value });
  const float = (value) => ({ type: "f32", value });
  const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, "0");
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${hex(byte)}>`);
  const words = Array.from({ length: vocabulary - FIRST_WORD }, (_, i) => `▁${i}`);
  const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6];
  const kinds = [UNKNOWN, CONTROL, CONTROL, ...bytes.map(() => BYTE), ...words.map(() => NORMAL)];
  return new Map([
    ["general.architecture", text("llama")],
    ["general.type", text("model")],
    ["general.name", text("synthetic")],
    ["llama.vocab_size", count(vocabulary)],
    ["llama.context_length", count(context)],
    ["llama.embedding_length", count(width)],
    ["llama.block_count", count(layers)],
    ["llama.feed_forward_length", count(hidden)],
    ["llama.attention.head_count", count(heads)],
    ["llama.attention.head_count_kv", count(kvHeads)],
    ["llama.attention.layer_norm_rms_epsilon", float(1e-5)],
    ["llama.rope.dimension_count", count(width / heads)],
    ["llama.rope.freq_base", float(10000)],
    ["tokenizer.ggml.model", text("llama")],
    ["tokenizer.ggml.pre", text("default")],
    [
      "tokenizer.ggml.tokens",
      { type: "array", items: "string", values: ["<unk>", "<s>", "</s>", ...bytes, ...words] },
    ],
    [
      "tokenizer.ggml.scores",
      { type: "array", items: "f32", values: Float32Array.from(kinds, (_, id) => -id) },
    ],
    ["tokenizer.ggml.token_type", { type: "array", items: "i32", values: Int32Array.from(kinds) }],
    ["tokenizer.ggml.bos_token_id", count(1)],
    ["tokenizer.ggml.eos_token_id", count(2)],
    ["tokenizer.ggml.unknown_token_id", count(0)],
  ]);
}

/** Random values of a tensor, a megabyte at a time: norms are ones, matrices roughly normal with a deviation of 0.02. */
function* dataOf({ type, shape }) {
  const count = shape.reduce((product, n) => product * n, 1);
  if (type === "F32") {
    yield new Uint8Array(new Float32Array(count).fill(1).buffer);
    return;
  }
  const floats = new Float32Array(1);
  const bits = new Uint32Array(floats.buffer);
  for (let done = 0; done < count; done += 2 ** 19) {
    const piece = new Uint16Array(Math.min(2 ** 19, count - done));
    for (let i = 0; i < piece.length; i++) {
      const random = next();
      const sum = (random & 255) + ((random >>> 8) & 255) + ((random >>> 16) & 255) + (random >>> 24);
      floats[0] = (sum - 510) * 1.35e-4;
      piece[i] = (bits[0] + 0x8000) >>> 16;
    }
    yield new Uint8Array(piece.buffer);
  }
}

let state = 1;
function next() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

/** The path of the model in bf16; written once. */
async function sourceModel() {
  const path = `${folder}llama-200m.gguf`;
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const tensors = [...tensorsOf(SIZE)];
  const layout = layoutGguf(metadataOf(SIZE), tensors);
  state = 1;
  const file = openSync(`${path}.partial`, "w");
  try {
    const write = (byteOffset, bytes) => void writeSync(file, bytes, 0, bytes.length, byteOffset);
    await writeGguf(layout, (_, index) => dataOf(tensors[index]), { write });
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.partial`, path);
  return path;
}

/** The path of the model quantized to a type; written once. */
export async function quantizedModel(type) {
  const path = `${folder}llama-200m-${type.toLowerCase()}.gguf`;
  if (!existsSync(path)) await new TextModelBuilder(await sourceModel()).withIsq(type).save(path);
  return path;
}
