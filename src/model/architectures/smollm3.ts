import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { type Fields, fieldValue, invalidField, readInteger } from "../fields.js";
import { readOptionalWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** SmolLM 3: llama with every fourth layer without positions. */
export const smollm3: Architecture = {
  name: "smollm3",
  classNames: ["SmolLM3ForCausalLM"],
  modelTypes: ["smollm3"],
  compile(fields) {
    const config = readDecoderConfig(fields, { tiedHead: true, rope: { theta: 2e6 } });
    const rotates = readRotatingLayers(fields, config.layers);
    const rule = (layer: number) => (rotates(layer) ? "full_attention" : "sliding_attention");
    const windows = readOptionalWindows(fields, config.layers, rule);
    return compileDecoder(config, (layer) => {
      const changes = { window: windows[layer], ...(!rotates(layer) && { rope: null }) };
      return preNorm(layer, attentionOf(config, layer, changes), mlpOf(config, layer));
    });
  },
};

/** `no_rope_layers` has, in spite of its name, a 1 for each layer with positions. */
function readRotatingLayers(fields: Fields, layers: number): (layer: number) => boolean {
  const value = fieldValue(fields, "no_rope_layers");
  if (value === undefined) {
    const interval = readInteger(fields, "no_rope_layer_interval", { minimum: 1, maximum: 1e6 }, 4);
    return (layer) => (layer + 1) % interval !== 0;
  }
  const known = (flag: unknown) => flag === 0 || flag === 1;
  if (Array.isArray(value) && value.length === layers && value.every(known))
    return (layer) => value[layer] === 1;
  throw invalidField(fields, "no_rope_layers", value, `${layers} times 0 or 1`);
}
