import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, sandwichNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readNumber } from "../fields.js";
import { readCap, readWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Gemma 2: gemma with norms before and after each part, soft caps, and a sliding window in every other layer. */
export const gemma2: Architecture = {
  name: "gemma2",
  classNames: ["Gemma2ForCausalLM"],
  modelTypes: ["gemma2"],
  compile(fields) {
    const config = readDecoderConfig(fields, {
      activationField: "hidden_activation",
      activation: "gelu_pytorch_tanh",
      headWidth: 256,
      normOffset: 1,
      tiedHead: true,
    });
    const windows = readWindows(fields, config.layers, (layer) =>
      layer % 2 === 0 ? "sliding_attention" : "full_attention",
    );
    const scale = 1 / Math.sqrt(readNumber(fields, "query_pre_attn_scalar", RANGES.scale, 256));
    const softcap = readCap(fields, "attn_logit_softcapping", 50);
    const logitSoftcap = readCap(fields, "final_logit_softcapping", 30);
    const stem = { ...config, embeddingScale: Math.sqrt(config.hiddenWidth), logitSoftcap };
    return compileDecoder(stem, (layer) =>
      sandwichNorm(
        layer,
        attentionOf(config, layer, { window: windows[layer], scale, softcap }),
        mlpOf(config, layer),
      ),
    );
  },
};
