import { readDecoderConfig } from "../config.js";
import { compileDecoder } from "../decoder.js";
import type { Architecture } from "./architecture.js";

/** Llama 1 to 3. */
export const llama: Architecture = {
  name: "llama",
  classNames: ["LlamaForCausalLM"],
  modelTypes: ["llama"],
  compile: (fields) => compileDecoder(readDecoderConfig(fields)),
};
