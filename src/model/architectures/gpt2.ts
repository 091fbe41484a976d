import type { Program, StoredWeight } from "../../backends/program.js";
import { selfAttention } from "../attention.js";
import { RANGES, readActivation, readNorm } from "../config.js";
import { compileDecoder, type Stem } from "../decoder.js";
import { plainMlp } from "../feed-forward.js";
import { type Fields, invalidField, readBoolean, readInteger } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** GPT-2: learned positions, layer norms, biases, and field names of its own. */
export const gpt2: Architecture = {
  name: "gpt2",
  classNames: ["GPT2LMHeadModel"],
  modelTypes: ["gpt2"],
  compile(fields) {
    const stem = readStem(fields);
    const heads = readInteger(fields, "n_head", RANGES.heads);
    const headWidth = stem.hiddenWidth / heads;
    if (!Number.isInteger(headWidth)) {
      throw invalidField(fields, "n_head", heads, `a divisor of n_embd ${stem.hiddenWidth}`);
    }
    const intermediateWidth = readInteger(fields, "n_inner", RANGES.width, 4 * stem.hiddenWidth);
    const activation = readActivation(fields, "activation_function", "gelu_new");
    const scale = readBoolean(fields, "scale_attn_weights", true) ? 1 / Math.sqrt(headWidth) : 1;
    const byLayer = readBoolean(fields, "scale_attn_by_inverse_layer_idx", false);
    const program = compileDecoder(stem, (layer) => {
      const at = `transformer.h.${layer}`;
      const attention = selfAttention({
        layer,
        heads,
        kvHeads: heads,
        headWidth,
        rope: null,
        window: null,
        at: `${at}.attn`,
        fused: "c_attn",
        output: "c_proj",
        inputBias: true,
        outputBias: true,
        scale: byLayer ? scale / (layer + 1) : scale,
      });
      const [up, down] = [`${at}.mlp.c_fc`, `${at}.mlp.c_proj`];
      const mlp = plainMlp({ layer, intermediateWidth, activation, up, down, bias: true });
      return [
        { before: `${at}.ln_1`, parts: [attention] },
        { before: `${at}.ln_2`, parts: [mlp] },
      ];
    });
    return sayHowStored(program);
  },
};

function readStem(fields: Fields): Stem {
  return {
    hiddenWidth: readInteger(fields, "n_embd", RANGES.width),
    layers: readInteger(fields, "n_layer", RANGES.layers),
    vocabulary: readInteger(fields, "vocab_size", RANGES.vocabulary),
    contextLength: readInteger(fields, "n_positions", RANGES.positions),
    norm: readNorm(fields, { norm: "layer", epsilonField: "layer_norm_epsilon", epsilon: 1e-5 }),
    tiedHead: readBoolean(fields, "tie_word_embeddings", true),
    embedding: "transformer.wte",
    positions: "transformer.wpe",
    finalNorm: "transformer.ln_f",
  };
}

/** Projections are stored [inputs, outputs]; the first checkpoints have no `transformer.` in front of their names. */
function sayHowStored(program: Program): Program {
  const weights = program.weights.map((weight) => {
    const { name, role } = weight;
    const how = role === "linear" ? { transposed: true } : {};
    const stored: StoredWeight[] = [
      { name, ...how },
      { name: name.replace(/^transformer\./, ""), ...how },
    ];
    return { ...weight, stored };
  });
  return { ...program, weights };
}
