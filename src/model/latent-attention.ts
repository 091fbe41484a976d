/**
 * Multi-head latent attention ("DeepSeek-V2", 2024): keys and values come from a narrow latent row, and a part of each key,
 * the same for all heads, carries the position. Keys and values are cached as they are, not as their latent row.
 */

import type { Slot } from "../backends/program.js";
import { pushRope, splitColumns } from "./attention.js";
import type { NormStyle, ProgramBuilder } from "./builder.js";
import type { Part } from "./decoder.js";
import type { RopeUse } from "./rope.js";

export interface LatentOptions {
  readonly layer: number;
  readonly heads: number;
  /** Elements of each key head without and with position, and of each value head. */
  readonly plainWidth: number;
  readonly rotaryWidth: number;
  readonly valueWidth: number;
  /** Of the latent rows; null: queries are made without one. */
  readonly queryRank: number | null;
  readonly keyRank: number;
  readonly norm: NormStyle;
  readonly bias: boolean;
  readonly rope: RopeUse;
  readonly interleaved: boolean;
  readonly scale: number;
}

export function latentAttention(options: LatentOptions): Part {
  const { layer, heads, plainWidth, rotaryWidth, valueWidth, scale, bias } = options;
  const headWidth = plainWidth + rotaryWidth;
  return (builder, x, out) => {
    const q = makeQueries(builder, options, x);
    const { k, v } = makeKeys(builder, options, x);
    const mixed = builder.slot("mixed", heads * valueWidth);
    builder.push({
      kind: "attention",
      q,
      k,
      v,
      out: mixed,
      layer,
      heads,
      kvHeads: heads,
      headWidth,
      valueWidth,
      scale,
      window: null,
    });
    builder.linear(mixed, out, { name: `${placeOf(options)}.o_proj`, layer, bias });
  };
}

const placeOf = ({ layer }: LatentOptions) => `model.layers.${layer}.self_attn`;

function makeQueries(builder: ProgramBuilder, options: LatentOptions, x: Slot): Slot {
  const { layer, heads, plainWidth, rotaryWidth, queryRank, norm, bias, rope, interleaved } = options;
  const at = placeOf(options);
  const headWidth = plainWidth + rotaryWidth;
  const q = builder.slot("query", heads * headWidth);
  if (queryRank === null) builder.linear(x, q, { name: `${at}.q_proj`, layer });
  else {
    const latent = builder.slot("queryLatent", queryRank);
    const normed = builder.slot("normedQueryLatent", queryRank);
    builder.linear(x, latent, { name: `${at}.q_a_proj`, layer, bias });
    builder.norm(latent, normed, norm, { name: `${at}.q_a_layernorm`, layer });
    builder.linear(normed, q, { name: `${at}.q_b_proj`, layer });
  }
  pushRope(builder, q, headWidth, rope, { start: plainWidth, interleaved });
  return q;
}

function makeKeys(builder: ProgramBuilder, options: LatentOptions, x: Slot): { k: Slot; v: Slot } {
  const { layer, heads, plainWidth, rotaryWidth, valueWidth, keyRank, norm, bias } = options;
  const at = placeOf(options);
  const headWidth = plainWidth + rotaryWidth;
  const both = builder.slot("keyLatentAndPosition", keyRank + rotaryWidth);
  const latent = builder.slot("keyLatent", keyRank);
  const rotary = builder.slot("keyPosition", rotaryWidth);
  builder.linear(x, both, { name: `${at}.kv_a_proj_with_mqa`, layer, bias });
  splitColumns(builder, both, [latent, rotary]);
  builder.norm(latent, latent, norm, { name: `${at}.kv_a_layernorm`, layer });
  pushRope(builder, rotary, rotaryWidth, options.rope, { interleaved: options.interleaved });

  const wide = builder.slot("keyAndValue", heads * (plainWidth + valueWidth));
  builder.linear(latent, wide, { name: `${at}.kv_b_proj`, layer });
  const k = builder.slot("key", heads * headWidth);
  const v = builder.slot("value", heads * valueWidth);
  const from = { x: wide, xStride: plainWidth + valueWidth };
  const toKey = { out: k, outStride: headWidth };
  const run = { kind: "copy", count: heads } as const;
  builder.push({ ...run, ...from, ...toKey, xStart: 0, outStart: 0, width: plainWidth });
  builder.push({
    ...run,
    x: rotary,
    xStart: 0,
    xStride: 0,
    ...toKey,
    outStart: plainWidth,
    width: rotaryWidth,
  });
  builder.push({
    ...run,
    ...from,
    xStart: plainWidth,
    out: v,
    outStart: 0,
    outStride: valueWidth,
    width: valueWidth,
  });
  return { k, v };
}
