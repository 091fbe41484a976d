/** Mixtures of experts: a router chooses, for every token, which of many feed-forward parts see it. */

import type { Activation, Router, Slot, StoredWeight, WeightIndex } from "../backends/program.js";
import type { ProgramBuilder } from "./builder.js";
import { RANGES } from "./config.js";
import type { Part } from "./decoder.js";
import { gatedMlp } from "./feed-forward.js";
import { type Fields, fieldValue, invalidField, readInteger } from "./fields.js";

export interface MixtureOptions {
  readonly layer: number;
  /** Where the weights are, for example `model.layers.0.mlp`: the router is `gate` there, the experts `experts.{e}`. */
  readonly at: string;
  readonly experts: number;
  /** Experts that a token goes to. */
  readonly chosen: number;
  readonly intermediateWidth: number;
  readonly activation: Activation;
  /** Names of the projections, in the checkpoint's order; `gate_proj`, `up_proj`, `down_proj` when absent. */
  readonly names?: { readonly gate: string; readonly up: string; readonly down: string };
  readonly router: Router;
  /** Name at the router of a bias for its choice. */
  readonly routerBias?: string;
  /** An expert that sees every token; with a gate, which is one more projection of the token, times its sigmoid. */
  readonly shared?: { readonly name: string; readonly intermediateWidth: number; readonly gate?: string };
}

type Use = "gate" | "up" | "down";

const NAMES = { gate: "gate_proj", up: "up_proj", down: "down_proj" } as const;

/** Σ of the chosen experts' results, as the router weighs them, and of the shared one's. */
export function mixture(options: MixtureOptions): Part {
  const { shared } = options;
  return (builder, x, out) => {
    if (!shared) return mixExperts(builder, options, x, out);
    const routed = builder.slot("routed", builder.width(out));
    mixExperts(builder, options, x, routed);
    const common = builder.slot("common", builder.width(out));
    addShared(builder, options, x, common);
    builder.push({ kind: "add", a: routed, b: common, out });
  };
}

function mixExperts(builder: ProgramBuilder, options: MixtureOptions, x: Slot, out: Slot): void {
  const { layer, at, experts, chosen: count, intermediateWidth, activation, names = NAMES } = options;
  const logits = builder.slot("routerLogits", experts);
  const chosen = builder.slot("chosenExperts", count);
  const weights = builder.slot("expertWeights", count);
  builder.linear(x, logits, { name: `${at}.gate`, layer, role: "router" });
  builder.push({ kind: "route", x: logits, chosen, weights, router: routerOf(builder, options) });

  const [inner, outer] = [intermediateWidth, builder.width(x)];
  const indices: Record<Use, WeightIndex[]> = { gate: [], up: [], down: [] };
  for (let expert = 0; expert < experts; expert++) {
    for (const use of Object.keys(names) as Use[]) {
      const name = `${at}.experts.${expert}.${names[use]}.weight`;
      const shape = use === "down" ? [outer, inner] : [inner, outer];
      const stored = [{ name }, stackOf(options, expert, use, outer)];
      indices[use].push(builder.weight({ name, role: "expert", layer, stored }, shape));
    }
  }
  const form = { rowsPerToken: count };
  const gate = builder.slot("expertGate", inner, form);
  const up = builder.slot("expertUp", inner, form);
  const results = builder.slot("expertResults", outer, form);
  builder.push({ kind: "expertLinear", x, chosen, experts: indices.gate, out: gate });
  builder.push({ kind: "expertLinear", x, chosen, experts: indices.up, out: up });
  builder.push({ kind: "gate", gate, up, out: gate, activation });
  builder.push({ kind: "expertLinear", x: gate, chosen, experts: indices.down, out: results });
  builder.push({ kind: "combine", x: results, weights, out });
}

/** Some checkpoints have the experts of a layer in two stacks: gate and up, one after the other, and down. */
function stackOf(
  { at, experts, intermediateWidth: inner }: MixtureOptions,
  index: number,
  use: Use,
  outer: number,
): StoredWeight {
  if (use === "down") {
    return { name: `${at}.experts.down_proj`, slice: { stack: [experts, outer, inner], index, first: 0 } };
  }
  const first = use === "gate" ? 0 : inner;
  return {
    name: `${at}.experts.gate_up_proj`,
    slice: { stack: [experts, 2 * inner, outer], index, first },
  };
}

function routerOf(
  builder: ProgramBuilder,
  { layer, at, experts, router, routerBias }: MixtureOptions,
): Router {
  if (routerBias === undefined || router.kind !== "scores") return router;
  const bias = builder.weight({ name: `${at}.gate.${routerBias}`, role: "bias", layer }, [experts]);
  return { ...router, bias };
}

function addShared(builder: ProgramBuilder, options: MixtureOptions, x: Slot, out: Slot): void {
  const { layer, at, activation } = options;
  const { name, intermediateWidth, gate } = options.shared!;
  const expert = gatedMlp({ layer, at: `${at}.${name}`, intermediateWidth, activation });
  if (gate === undefined) {
    expert(builder, x, out);
    return;
  }
  const result = builder.slot("commonResult", builder.width(out));
  expert(builder, x, result);
  const weights = builder.slot("commonWeight", 1);
  builder.linear(x, weights, { name: `${at}.${gate}`, layer, role: "router" });
  builder.push({ kind: "activate", x: weights, out: weights, activation: "sigmoid" });
  builder.push({ kind: "combine", x: result, weights, out });
}

/** Which layers of a Qwen model have experts: `mlp_only_layers` and `decoder_sparse_step` say it. */
export function readSparseLayers(fields: Fields, layers: number): (layer: number) => boolean {
  const step = readInteger(fields, "decoder_sparse_step", { minimum: 1, maximum: RANGES.layers.maximum }, 1);
  const dense = fieldValue(fields, "mlp_only_layers") ?? [];
  const isLayer = (layer: unknown) => Number.isInteger(layer) && (layer as number) >= 0;
  if (!Array.isArray(dense) || !dense.every(isLayer)) {
    throw invalidField(fields, "mlp_only_layers", dense, `a list of layers below ${layers}`);
  }
  return (layer) => !dense.includes(layer) && (layer + 1) % step === 0;
}
