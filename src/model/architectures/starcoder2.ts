import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { plainMlp } from "../feed-forward.js";
import { readBoolean } from "../fields.js";
import { readSlidingWindow } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Starcoder 2: layer norms, biases, and a feed-forward part without a gate. */
export const starcoder2: Architecture = {
  name: "starcoder2",
  classNames: ["Starcoder2ForCausalLM"],
  modelTypes: ["starcoder2"],
  compile(fields) {
    const config = readDecoderConfig(fields, {
      norm: "layer",
      epsilonField: "norm_epsilon",
      epsilon: 1e-5,
      activation: "gelu_pytorch_tanh",
      tiedHead: true,
    });
    const { intermediateWidth, activation } = config;
    const window = readSlidingWindow(fields);
    const bias = readBoolean(fields, "use_bias", true);
    return compileDecoder(config, (layer) => {
      const at = `model.layers.${layer}.mlp`;
      const [up, down] = [`${at}.c_fc`, `${at}.c_proj`];
      return preNorm(
        layer,
        attentionOf(config, layer, { window, inputBias: bias, outputBias: bias }),
        plainMlp({ layer, intermediateWidth, activation, up, down, bias }),
      );
    });
  },
};
