/** The forward pass of llama-like decoders, in pieces that architectures put together. Weight names are Hugging Face's. */

import type { Program, Slot } from "../backends/program.js";
import { createBuilder, type ProgramBuilder } from "./builder.js";
import type { DecoderConfig } from "./config.js";
import { ropeTable } from "./rope.js";

/** A decoder being written. `hidden` is the residual stream. */
export interface DecoderDraft {
  readonly builder: ProgramBuilder;
  readonly config: DecoderConfig;
  readonly hidden: Slot;
  /** Index of the rotary table. */
  readonly rope: number;
}

const EMBEDDING = "model.embed_tokens.weight";

/** Norm, attention, residual, norm, gated MLP, residual: the whole program of llama and mistral. */
export function compileDecoder(config: DecoderConfig): Program {
  const draft = startDecoder(config);
  for (let layer = 0; layer < config.layers; layer++) {
    attend(draft, layer);
    feedForward(draft, layer);
  }
  return finishDecoder(draft);
}

/** Embeds the tokens into the residual stream. */
export function startDecoder(config: DecoderConfig): DecoderDraft {
  const builder = createBuilder();
  const hidden = builder.slot("hidden", config.hiddenWidth);
  const shape = [config.vocabulary, config.hiddenWidth];
  const weight = builder.weight({ name: EMBEDDING, role: "embedding", layer: null }, shape);
  builder.push({ kind: "embed", weight, out: hidden });
  return { builder, config, hidden, rope: builder.rope(ropeTable(config.rope, config.headWidth)) };
}

/** Adds self-attention over the normed residual stream. */
export function attend({ builder, config, hidden, rope }: DecoderDraft, layer: number): void {
  const { heads, kvHeads, headWidth, attentionBias: bias } = config;
  const at = `model.layers.${layer}`;
  const normed = builder.slot("normed", config.hiddenWidth);
  const q = builder.slot("query", heads * headWidth);
  const k = builder.slot("key", kvHeads * headWidth);
  const v = builder.slot("value", kvHeads * headWidth);
  const mixed = builder.slot("mixed", heads * headWidth);
  const update = builder.slot("update", config.hiddenWidth);
  builder.rmsNorm(hidden, normed, `${at}.input_layernorm.weight`, layer, config.epsilon);
  builder.linear(normed, q, { name: `${at}.self_attn.q_proj`, layer, bias });
  builder.linear(normed, k, { name: `${at}.self_attn.k_proj`, layer, bias });
  builder.linear(normed, v, { name: `${at}.self_attn.v_proj`, layer, bias });
  builder.push({ kind: "rope", x: q, headWidth, table: rope });
  builder.push({ kind: "rope", x: k, headWidth, table: rope });
  const scale = 1 / Math.sqrt(headWidth);
  const window = config.slidingWindow;
  builder.push({ kind: "attention", q, k, v, out: mixed, layer, heads, kvHeads, headWidth, scale, window });
  builder.linear(mixed, update, { name: `${at}.self_attn.o_proj`, layer, bias });
  builder.push({ kind: "add", a: hidden, b: update, out: hidden });
}

/** Adds down(silu(gate(x)) · up(x)) over the normed residual stream. */
export function feedForward({ builder, config, hidden }: DecoderDraft, layer: number): void {
  const at = `model.layers.${layer}`;
  const bias = config.mlpBias;
  const normed = builder.slot("normed", config.hiddenWidth);
  const gate = builder.slot("gate", config.intermediateWidth);
  const up = builder.slot("up", config.intermediateWidth);
  const update = builder.slot("update", config.hiddenWidth);
  builder.rmsNorm(hidden, normed, `${at}.post_attention_layernorm.weight`, layer, config.epsilon);
  builder.linear(normed, gate, { name: `${at}.mlp.gate_proj`, layer, bias });
  builder.linear(normed, up, { name: `${at}.mlp.up_proj`, layer, bias });
  builder.push({ kind: "gate", gate, up, out: gate, activation: config.activation });
  builder.linear(gate, update, { name: `${at}.mlp.down_proj`, layer, bias });
  builder.push({ kind: "add", a: hidden, b: update, out: hidden });
}

/** Final norm and head, for the rows whose logits are wanted. */
export function finishDecoder({ builder, config, hidden }: DecoderDraft): Program {
  const chosen = builder.slot("chosen", config.hiddenWidth, "outputs");
  const logits = builder.slot("logits", config.vocabulary, "outputs");
  builder.push({ kind: "select", x: hidden, out: chosen });
  builder.rmsNorm(chosen, chosen, "model.norm.weight", null, config.epsilon);
  const tied = config.tiedHead ? { tiedTo: EMBEDDING } : {};
  builder.linear(chosen, logits, { name: "lm_head", layer: null, role: "head", ...tied });
  return builder.finish(logits, {
    vocabulary: config.vocabulary,
    contextLength: config.contextLength,
    cacheLayers: config.layers,
    cacheWidth: config.kvHeads * config.headWidth,
  });
}
