/**
 * The forward pass of decoders, from the embedding to the logits. An architecture says what its blocks consist of; the
 * parts are in attention.ts, latent-attention.ts, feed-forward.ts and mixture.ts. Weight names are Hugging Face's.
 */

import type { Program, Slot } from "../backends/program.js";
import { createBuilder, type NormStyle, type ProgramBuilder } from "./builder.js";

/** Writes one part of a block: something made of x, into `out`. */
export type Part = (builder: ProgramBuilder, x: Slot, out: Slot) => void;

/** One addition to the residual stream: hidden += after(part(before(hidden))), of each part. Names are of norms. */
export interface Step {
  /** Absent: the parts see the residual stream as it is. */
  readonly before?: string;
  readonly after?: string;
  readonly parts: readonly Part[];
}

/** What encloses the blocks. */
export interface Stem {
  readonly hiddenWidth: number;
  readonly layers: number;
  readonly vocabulary: number;
  /** Positions. */
  readonly contextLength: number;
  readonly norm: NormStyle;
  /** The head has the weights of the embedding. */
  readonly tiedHead: boolean;
  readonly headBias?: boolean;
  /** Names without `.weight`; those of llama when absent. */
  readonly embedding?: string;
  readonly finalNorm?: string;
  /** Name of a table of learned positions, [contextLength, hiddenWidth]. */
  readonly positions?: string;
  /** Factors of the embedding, of what is added to the residual stream, of the logits. */
  readonly embeddingScale?: number;
  readonly residualScale?: number;
  readonly logitScale?: number;
  readonly logitSoftcap?: number | undefined;
}

/** The program of a decoder whose block `layer` takes the given steps. */
export function compileDecoder(stem: Stem, block: (layer: number) => readonly Step[]): Program {
  const builder = createBuilder();
  const hidden = embed(builder, stem);
  for (let layer = 0; layer < stem.layers; layer++) {
    for (const step of block(layer)) addStep(builder, stem, hidden, layer, step);
  }
  return finish(builder, stem, hidden);
}

/** Attention, then the feed-forward part, each over the normed residual stream. */
export function preNorm(layer: number, attention: Part, feedForward: Part): readonly Step[] {
  const at = `model.layers.${layer}`;
  return [
    { before: `${at}.input_layernorm`, parts: [attention] },
    { before: `${at}.post_attention_layernorm`, parts: [feedForward] },
  ];
}

/** Gemma's: a norm before each part and one after it. */
export function sandwichNorm(layer: number, attention: Part, feedForward: Part): readonly Step[] {
  const at = `model.layers.${layer}`;
  const [before, after] = [`${at}.input_layernorm`, `${at}.post_attention_layernorm`];
  return [
    { before, after, parts: [attention] },
    {
      before: `${at}.pre_feedforward_layernorm`,
      after: `${at}.post_feedforward_layernorm`,
      parts: [feedForward],
    },
  ];
}

const embeddingOf = ({ embedding = "model.embed_tokens" }: Stem) => `${embedding}.weight`;

function embed(builder: ProgramBuilder, stem: Stem): Slot {
  const { hiddenWidth, vocabulary, contextLength, positions, embeddingScale: scale } = stem;
  const hidden = builder.slot("hidden", hiddenWidth);
  const place = { role: "embedding", layer: null } as const;
  const weight = builder.weight({ name: embeddingOf(stem), ...place }, [vocabulary, hiddenWidth]);
  builder.push({
    kind: "embed",
    weight,
    out: hidden,
    index: "tokens",
    ...(scale !== undefined && { scale }),
  });
  if (positions !== undefined) {
    const out = builder.slot("update", hiddenWidth);
    const table = builder.weight({ name: `${positions}.weight`, ...place }, [contextLength, hiddenWidth]);
    builder.push({ kind: "embed", weight: table, out, index: "positions" });
    builder.push({ kind: "add", a: hidden, b: out, out: hidden });
  }
  return hidden;
}

function addStep(builder: ProgramBuilder, stem: Stem, hidden: Slot, layer: number, step: Step): void {
  const { hiddenWidth, norm, residualScale: scale } = stem;
  let x = hidden;
  if (step.before !== undefined) {
    x = builder.slot("normed", hiddenWidth);
    builder.norm(hidden, x, norm, { name: step.before, layer });
  }
  // All parts see the stream as it was before the step.
  const updates = step.parts.map((part, i) => {
    const update = builder.slot(i === 0 ? "update" : `update${i + 1}`, hiddenWidth);
    part(builder, x, update);
    if (step.after === undefined) return update;
    const settled = builder.slot("settled", hiddenWidth);
    builder.norm(update, settled, norm, { name: step.after, layer });
    return settled;
  });
  for (const b of updates) {
    builder.push({ kind: "add", a: hidden, b, out: hidden, ...(scale !== undefined && { scale }) });
  }
}

/** Final norm and head, for the rows whose logits are wanted. */
function finish(builder: ProgramBuilder, stem: Stem, hidden: Slot): Program {
  const { hiddenWidth, vocabulary, norm, logitScale, logitSoftcap, finalNorm = "model.norm" } = stem;
  const chosen = builder.slot("chosen", hiddenWidth, { rows: "outputs" });
  const logits = builder.slot("logits", vocabulary, { rows: "outputs" });
  builder.push({ kind: "select", x: hidden, out: chosen });
  builder.norm(chosen, chosen, norm, { name: finalNorm, layer: null });
  builder.linear(chosen, logits, {
    name: "lm_head",
    layer: null,
    role: "head",
    bias: stem.headBias ?? false,
    ...(stem.tiedHead && { tiedTo: embeddingOf(stem) }),
  });
  if (logitScale !== undefined) builder.push({ kind: "scale", x: logits, out: logits, factor: logitScale });
  if (logitSoftcap !== undefined)
    builder.push({ kind: "softcap", x: logits, out: logits, cap: logitSoftcap });
  return builder.finish(logits, stem.contextLength);
}
