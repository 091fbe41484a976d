/** Feed-forward parts of a block. */

import type { Activation } from "../backends/program.js";
import { splitColumns } from "./attention.js";
import type { LinearPlace } from "./builder.js";
import type { DecoderConfig } from "./config.js";
import type { Part } from "./decoder.js";

export interface GatedOptions {
  readonly layer: number;
  readonly intermediateWidth: number;
  readonly activation: Activation;
  /** Where the weights are: `model.layers.{layer}.mlp` when absent. */
  readonly at?: string;
  readonly bias?: boolean;
  /** One projection makes gate and up, one after the other. Absent: `gate_proj`, `up_proj`. */
  readonly fused?: string;
}

/** down(activation(gate(x)) · up(x)). */
export function gatedMlp(options: GatedOptions): Part {
  const { layer, intermediateWidth, activation, bias = false, fused } = options;
  const { at = `model.layers.${layer}.mlp` } = options;
  const place = (name: string): LinearPlace => ({ name: `${at}.${name}`, layer, bias });
  return (builder, x, out) => {
    const gate = builder.slot(`gate${intermediateWidth}`, intermediateWidth);
    const up = builder.slot(`up${intermediateWidth}`, intermediateWidth);
    if (fused === undefined) {
      builder.linear(x, gate, place("gate_proj"));
      builder.linear(x, up, place("up_proj"));
    } else {
      const both = builder.slot("gateUp", 2 * intermediateWidth);
      builder.linear(x, both, place(fused));
      splitColumns(builder, both, [gate, up]);
    }
    builder.push({ kind: "gate", gate, up, out: gate, activation });
    builder.linear(gate, out, place("down_proj"));
  };
}

/** The gated part as a config of the llama family has it, but for `changes`. */
export function mlpOf(config: DecoderConfig, layer: number, changes: Partial<GatedOptions> = {}): Part {
  const { intermediateWidth, activation, mlpBias } = config;
  return gatedMlp({ layer, intermediateWidth, activation, bias: mlpBias, ...changes });
}

export interface PlainOptions {
  readonly layer: number;
  readonly intermediateWidth: number;
  readonly activation: Activation;
  /** Names of the two projections. */
  readonly up: string;
  readonly down: string;
  readonly bias: boolean;
}

/** down(activation(up(x))). */
export function plainMlp({ layer, intermediateWidth, activation, up, down, bias }: PlainOptions): Part {
  return (builder, x, out) => {
    const wide = builder.slot("wide", intermediateWidth);
    builder.linear(x, wide, { name: up, layer, bias });
    builder.push({ kind: "activate", x: wide, out: wide, activation });
    builder.linear(wide, out, { name: down, layer, bias });
  };
}
