import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, sandwichNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { type Fields, fieldValue, readInteger, readNumber, readObject } from "../fields.js";
import { parseRope, type RopeScaling, ropeUse } from "../rope.js";
import { readCap, readLayerTypes, readWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Gemma 3, text: gemma2 without caps, with norms of queries and keys; sliding layers have rotary parameters of their own. */
export const gemma3: Architecture = {
  name: "gemma3",
  classNames: ["Gemma3ForCausalLM"],
  modelTypes: ["gemma3_text"],
  compile(fields) {
    const ropes = readRopes(fields);
    const config = readDecoderConfig(fields, {
      activationField: "hidden_activation",
      activation: "gelu_pytorch_tanh",
      headWidth: 256,
      normOffset: 1,
      tiedHead: true,
      rope: { scaling: null },
    });
    const { layers, rotaryWidth } = config;
    const pattern = readPattern(fields);
    const rule = (layer: number) => ((layer + 1) % pattern === 0 ? "full_attention" : "sliding_attention");
    const types = readLayerTypes(fields, layers, rule);
    const windows = readWindows(fields, layers, rule);
    const scale = 1 / Math.sqrt(readNumber(fields, "query_pre_attn_scalar", RANGES.scale, 256));
    const softcap = readCap(fields, "attn_logit_softcapping");
    const logitSoftcap = readCap(fields, "final_logit_softcapping");
    const norms = { style: config.norm, over: "head" } as const;
    const stem = { ...config, embeddingScale: Math.sqrt(config.hiddenWidth), logitSoftcap };
    return compileDecoder(stem, (layer) => {
      const rope = ropeUse(ropes[types[layer]], rotaryWidth);
      const attention = attentionOf(config, layer, { window: windows[layer], rope, scale, softcap, norms });
      return sandwichNorm(layer, attention, mlpOf(config, layer));
    });
  },
};

/** Every so many layers one sees all positions. */
function readPattern(fields: Fields): number {
  const older = fieldValue(fields, "sliding_window_pattern") !== undefined;
  const name = older ? "sliding_window_pattern" : "_sliding_window_pattern";
  return readInteger(fields, name, { minimum: 1, maximum: 1000 }, 6);
}

/** Newer configs have rotary parameters by kind of layer; older ones two bases, and a scaling for the full layers. */
function readRopes(fields: Fields): Record<"full_attention" | "sliding_attention", RopeScaling> {
  const newer = readObject(fields, "rope_parameters");
  const theta = 1e6;
  if (newer) {
    const read = (kind: string, theta: number) =>
      parseRope(fields, { theta, scaling: readObject(newer, kind) });
    return {
      full_attention: read("full_attention", theta),
      sliding_attention: read("sliding_attention", 1e4),
    };
  }
  const local = readNumber(fields, "rope_local_base_freq", { minimum: 2, maximum: 1e12 }, 1e4);
  return {
    full_attention: parseRope(fields, { theta }),
    sliding_attention: { kind: "default", theta: local },
  };
}
