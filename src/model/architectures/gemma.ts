import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { fieldValue } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** Gemma: wide heads, a scaled embedding that is the head too, and norms whose weights count from 1. */
export const gemma: Architecture = {
  name: "gemma",
  classNames: ["GemmaForCausalLM"],
  modelTypes: ["gemma"],
  compile(fields) {
    // Older configs say `"hidden_act": "gelu"` and mean the tanh form, which the models were trained with.
    const isStated = fieldValue(fields, "hidden_activation") !== undefined;
    const older = fieldValue(fields, "hidden_act") === "gelu" && !isStated;
    const read = readDecoderConfig(fields, {
      activationField: isStated ? "hidden_activation" : "hidden_act",
      activation: "gelu_pytorch_tanh",
      headWidth: 256,
      normOffset: 1,
      tiedHead: true,
    });
    const config = { ...read, ...(older && { activation: "geluTanh" as const }) };
    const stem = { ...config, embeddingScale: Math.sqrt(config.hiddenWidth) };
    return compileDecoder(stem, (layer) => preNorm(layer, attentionOf(config, layer), mlpOf(config, layer)));
  },
};
