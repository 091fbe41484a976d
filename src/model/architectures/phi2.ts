import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder } from "../decoder.js";
import { plainMlp } from "../feed-forward.js";
import { invalidField, readBoolean } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** Phi 1 to 2: attention and feed-forward side by side over one layer norm, biases everywhere, half of each head rotated. */
export const phi2: Architecture = {
  name: "phi2",
  classNames: ["PhiForCausalLM"],
  modelTypes: ["phi"],
  compile(fields) {
    const config = readDecoderConfig(fields, {
      norm: "layer",
      epsilonField: "layer_norm_eps",
      epsilon: 1e-5,
      activation: "gelu_new",
      rotaryFraction: 0.5,
    });
    if (readBoolean(fields, "qk_layernorm", false)) {
      throw invalidField(fields, "qk_layernorm", true, "false: no norms of queries and keys");
    }
    const { intermediateWidth, activation } = config;
    const stem = { ...config, headBias: true, finalNorm: "model.final_layernorm" };
    return compileDecoder(stem, (layer) => {
      const at = `model.layers.${layer}`;
      const attention = attentionOf(config, layer, { inputBias: true, outputBias: true, output: "dense" });
      const [up, down] = [`${at}.mlp.fc1`, `${at}.mlp.fc2`];
      const mlp = plainMlp({ layer, intermediateWidth, activation, up, down, bias: true });
      return [{ before: `${at}.input_layernorm`, parts: [attention, mlp] }];
    });
  },
};
