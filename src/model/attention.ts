/** Self-attention over keys and values of whole heads. */

import type { Slot } from "../backends/program.js";
import type { NormStyle, ProgramBuilder } from "./builder.js";
import type { DecoderConfig } from "./config.js";
import type { Part } from "./decoder.js";
import { type RopeUse, ropeUse } from "./rope.js";

export interface AttentionOptions {
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Elements of a head of queries, keys and values. */
  readonly headWidth: number;
  /** Null: no rotary embedding. */
  readonly rope: RopeUse | null;
  /** Positions seen, the own one included; null: all before. */
  readonly window: number | null;
  /** Where the weights are: `model.layers.{layer}.self_attn` when absent. */
  readonly at?: string;
  /** One projection makes queries, keys and values, one after the other. Absent: `q_proj`, `k_proj`, `v_proj`. */
  readonly fused?: string;
  /** `o_proj` when absent. */
  readonly output?: string;
  /** Biases of the projections in front, and of the one behind. */
  readonly inputBias?: boolean;
  readonly outputBias?: boolean;
  /** Norms of queries (`q_norm`) and keys (`k_norm`), of each head or the whole row. */
  readonly norms?: { readonly style: NormStyle; readonly over: "head" | "row" };
  /** 1 / √headWidth when absent. */
  readonly scale?: number;
  readonly softcap?: number | undefined;
}

interface Projected {
  readonly q: Slot;
  readonly k: Slot;
  readonly v: Slot;
}

export function selfAttention(options: AttentionOptions): Part {
  const { layer, heads, kvHeads, headWidth, rope, window, softcap } = options;
  const { at = `model.layers.${layer}.self_attn`, output = "o_proj", outputBias = false } = options;
  const { scale = 1 / Math.sqrt(headWidth) } = options;
  return (builder, x, out) => {
    const project = options.fused === undefined ? projectSeparately : projectFused;
    const { q, k, v } = normHeads(builder, options, at, project(builder, options, at, x));
    if (rope) for (const slot of [q, k]) pushRope(builder, slot, headWidth, rope);
    const mixed = builder.slot("mixed", heads * headWidth);
    builder.push({
      kind: "attention",
      q,
      k,
      v,
      out: mixed,
      layer,
      heads,
      kvHeads,
      headWidth,
      valueWidth: headWidth,
      scale,
      ...(softcap !== undefined && { softcap }),
      window,
    });
    builder.linear(mixed, out, { name: `${at}.${output}`, layer, bias: outputBias });
  };
}

/** Attention as a config of the llama family has it, but for `changes`. */
export function attentionOf(
  config: DecoderConfig,
  layer: number,
  changes: Partial<AttentionOptions> = {},
): Part {
  const { heads, kvHeads, headWidth, attentionBias } = config;
  return selfAttention({
    layer,
    heads,
    kvHeads,
    headWidth,
    rope: ropeUse(config.rope, config.rotaryWidth),
    window: null,
    inputBias: attentionBias,
    outputBias: attentionBias,
    ...changes,
  });
}

/** Rotates all heads of a slot, from element `start` of each on. */
export function pushRope(
  builder: ProgramBuilder,
  x: Slot,
  headWidth: number,
  { table, long }: RopeUse,
  { start = 0, interleaved = false } = {},
): void {
  builder.push({
    kind: "rope",
    x,
    headWidth,
    start,
    interleaved,
    table: builder.rope(table),
    ...(long && { long: { table: builder.rope(long.table), beyond: long.beyond } }),
  });
}

function makeSlots(builder: ProgramBuilder, { heads, kvHeads, headWidth }: AttentionOptions): Projected {
  return {
    q: builder.slot("query", heads * headWidth),
    k: builder.slot("key", kvHeads * headWidth),
    v: builder.slot("value", kvHeads * headWidth),
  };
}

function projectSeparately(
  builder: ProgramBuilder,
  options: AttentionOptions,
  at: string,
  x: Slot,
): Projected {
  const { layer, inputBias: bias = false } = options;
  const slots = makeSlots(builder, options);
  builder.linear(x, slots.q, { name: `${at}.q_proj`, layer, bias });
  builder.linear(x, slots.k, { name: `${at}.k_proj`, layer, bias });
  builder.linear(x, slots.v, { name: `${at}.v_proj`, layer, bias });
  return slots;
}

function projectFused(builder: ProgramBuilder, options: AttentionOptions, at: string, x: Slot): Projected {
  const { layer, fused, inputBias: bias = false } = options;
  const slots = makeSlots(builder, options);
  const widths = [slots.q, slots.k, slots.v].map(builder.width);
  const all = builder.slot(
    "projected",
    widths.reduce((sum, width) => sum + width),
  );
  builder.linear(x, all, { name: `${at}.${fused}`, layer, bias });
  splitColumns(builder, all, [slots.q, slots.k, slots.v]);
  return slots;
}

/** Copies the columns of `x`, one slot after the other. */
export function splitColumns(builder: ProgramBuilder, x: Slot, outs: readonly Slot[]): void {
  let xStart = 0;
  for (const out of outs) {
    const width = builder.width(out);
    builder.push({ kind: "copy", x, xStart, xStride: 0, out, outStart: 0, outStride: 0, count: 1, width });
    xStart += width;
  }
}

function normHeads(
  builder: ProgramBuilder,
  { layer, headWidth, norms }: AttentionOptions,
  at: string,
  { q, k, v }: Projected,
): Projected {
  if (!norms) return { q, k, v };
  const norm = (x: Slot, name: string, whole: string) => {
    // A norm of whole rows reads columns that others write: its result goes elsewhere.
    const out = norms.over === "head" ? x : builder.slot(whole, builder.width(x));
    const width = norms.over === "head" ? { width: headWidth } : {};
    builder.norm(x, out, norms.style, { name: `${at}.${name}`, layer, ...width });
    return out;
  };
  return { q: norm(q, "q_norm", "normedQuery"), k: norm(k, "k_norm", "normedKey"), v };
}
