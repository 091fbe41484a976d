// A Llama checkpoint of some size as safetensors, with random weights that nothing is worth keeping of in memory.
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";

function* tensorsOf({ layers, width, hidden, vocabulary }) {
  yield ["model.embed_tokens.weight", [vocabulary, width]];
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    yield [`${at}.input_layernorm.weight`, [width]];
    for (const part of ["q", "k", "v", "o"]) yield [`${at}.self_attn.${part}_proj.weight`, [width, width]];
    yield [`${at}.post_attention_layernorm.weight`, [width]];
    yield [`${at}.mlp.gate_proj.weight`, [hidden, width]];
    yield [`${at}.mlp.up_proj.weight`, [hidden, width]];
    yield [`${at}.mlp.down_proj.weight`, [width, hidden]];
  }
  yield ["model.norm.weight", [width]];
  yield ["lm_head.weight", [vocabulary, width]];
}

/** Writes config.json and a bf16 model.safetensors a megabyte at a time; returns the bytes of the weights. */
export function writeCheckpoint(folder, size) {
  mkdirSync(folder, { recursive: true });
  const { layers, width, hidden, heads, vocabulary } = size;
  const config = {
    ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], rms_norm_eps: 1e-5, rope_theta: 10000 },
    ...{ hidden_size: width, intermediate_size: hidden, num_hidden_layers: layers, vocab_size: vocabulary },
    ...{ num_attention_heads: heads, num_key_value_heads: heads, max_position_embeddings: 2048 },
    tie_word_embeddings: false,
  };
  writeFileSync(`${folder}/config.json`, JSON.stringify(config));
  const header = {};
  let end = 0;
  for (const [name, shape] of tensorsOf(size)) {
    const start = end;
    end += 2 * shape.reduce((product, n) => product * n, 1);
    header[name] = { dtype: "BF16", shape, data_offsets: [start, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const piece = randomWeights(2 ** 19);
  const file = openSync(`${folder}/model.safetensors`, "w");
  try {
    writeSync(file, Buffer.concat([length, text]));
    for (let at = 0; at < end; at += piece.length) {
      writeSync(file, piece.subarray(0, Math.min(piece.length, end - at)));
    }
  } finally {
    closeSync(file);
  }
  return end;
}

/** bf16 of either sign, from 2^-8 to 2^-4. */
function randomWeights(count) {
  const words = new Uint16Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = ((state >>> 31) << 15) | ((119 + ((state >>> 20) & 3)) << 7) | ((state >>> 8) & 127);
  }
  return new Uint8Array(words.buffer);
}
