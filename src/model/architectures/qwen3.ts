import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readOptionalWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Qwen 3: llama with norms of each head's queries and keys. */
export const qwen3: Architecture = {
  name: "qwen3",
  classNames: ["Qwen3ForCausalLM"],
  modelTypes: ["qwen3"],
  compile(fields) {
    const config = readDecoderConfig(fields, { headWidth: 128 });
    const windows = readOptionalWindows(fields, config.layers);
    const norms = { style: config.norm, over: "head" } as const;
    return compileDecoder(config, (layer) =>
      preNorm(layer, attentionOf(config, layer, { window: windows[layer], norms }), mlpOf(config, layer)),
    );
  },
};
