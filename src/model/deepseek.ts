/** What DeepSeek's models have in common: latent attention, and experts beside one that sees every token. */

import type { Program, Router } from "../backends/program.js";
import { type DecoderConfig, RANGES, readDecoderConfig } from "./config.js";
import { compileDecoder, preNorm } from "./decoder.js";
import { mlpOf } from "./feed-forward.js";
import { type Fields, fieldValue, invalidField, readInteger } from "./fields.js";
import { type LatentOptions, latentAttention } from "./latent-attention.js";
import { mixture } from "./mixture.js";
import { ropeUse } from "./rope.js";

interface DeepseekConfig {
  readonly decoder: DecoderConfig;
  readonly latent: Pick<LatentOptions, "plainWidth" | "rotaryWidth" | "valueWidth" | "queryRank" | "keyRank">;
  /** Routed experts; 0: none. */
  readonly experts: number;
  readonly chosen: number;
  readonly groups: { readonly count: number; readonly chosen: number };
  /** Experts' worth of the one that sees every token. */
  readonly sharedExperts: number;
  readonly expertWidth: number;
  readonly isSparse: (layer: number) => boolean;
}

/** What the versions differ in. */
interface DeepseekModel extends DeepseekConfig {
  readonly interleaved: boolean;
  readonly router: Router;
  readonly routerBias?: string;
}

/** Throws `config/missing` and `config/invalid`. */
export function readDeepseek(fields: Fields): DeepseekConfig {
  const rotaryWidth = readInteger(fields, "qk_rope_head_dim", RANGES.width, 64);
  if (rotaryWidth % 2 !== 0) throw invalidField(fields, "qk_rope_head_dim", rotaryWidth, "even");
  const hasQueryRank = fieldValue(fields, "q_lora_rank") !== undefined;
  const count = (name: string) => readInteger(fields, name, { ...RANGES.experts, minimum: 0 }, 0);
  const experts = count("n_routed_experts");
  const dense = readInteger(
    fields,
    "first_k_dense_replace",
    { minimum: 0, maximum: RANGES.layers.maximum },
    0,
  );
  const every = readInteger(fields, "moe_layer_freq", RANGES.layers, 1);
  return {
    decoder: readDecoderConfig(fields, { headWidth: rotaryWidth }),
    latent: {
      plainWidth: readInteger(fields, "qk_nope_head_dim", RANGES.width, 128),
      rotaryWidth,
      valueWidth: readInteger(fields, "v_head_dim", RANGES.width, 128),
      queryRank: hasQueryRank ? readInteger(fields, "q_lora_rank", RANGES.width) : null,
      keyRank: readInteger(fields, "kv_lora_rank", RANGES.width, 512),
    },
    experts,
    chosen: experts === 0 ? 0 : readInteger(fields, "num_experts_per_tok", { minimum: 1, maximum: experts }),
    groups: readGroups(fields, experts),
    sharedExperts: count("n_shared_experts"),
    expertWidth: experts === 0 ? 0 : readInteger(fields, "moe_intermediate_size", RANGES.width),
    isSparse: (layer) => experts > 0 && layer >= dense && layer % every === 0,
  };
}

/** Groups must hold all experts evenly, and the best of them as many as a token goes to. */
function readGroups(fields: Fields, experts: number): { count: number; chosen: number } {
  if (experts === 0) return { count: 1, chosen: 1 };
  const count = readInteger(fields, "n_group", { minimum: 1, maximum: experts }, 1);
  const chosen = readInteger(fields, "topk_group", { minimum: 1, maximum: count }, 1);
  if (experts % count !== 0) throw invalidField(fields, "n_group", count, `a divisor of ${experts} experts`);
  const least = readInteger(fields, "num_experts_per_tok", RANGES.experts);
  if ((experts / count) * chosen < least) {
    const limit = `enough groups of ${experts / count} for ${least} experts`;
    throw invalidField(fields, "topk_group", chosen, limit);
  }
  return { count, chosen };
}

export function compileDeepseek(model: DeepseekModel): Program {
  const { decoder, latent, interleaved } = model;
  const { heads, norm, attentionBias: bias, rope: scaling } = decoder;
  const rope = ropeUse(scaling, latent.rotaryWidth);
  const scoreScale = scaling.kind === "yarn" ? scaling.scoreScale : 1;
  const scale = (scoreScale * scoreScale) / Math.sqrt(latent.plainWidth + latent.rotaryWidth);
  return compileDecoder(decoder, (layer) =>
    preNorm(
      layer,
      latentAttention({ layer, heads, ...latent, norm, bias, rope, interleaved, scale }),
      model.isSparse(layer) ? mixtureOf(model, layer) : mlpOf(decoder, layer),
    ),
  );
}

function mixtureOf(model: DeepseekModel, layer: number) {
  const { experts, chosen, expertWidth: intermediateWidth, sharedExperts, router, routerBias } = model;
  const shared = { name: "shared_experts", intermediateWidth: sharedExperts * intermediateWidth };
  return mixture({
    layer,
    at: `model.layers.${layer}.mlp`,
    experts,
    chosen,
    intermediateWidth,
    activation: model.decoder.activation,
    router,
    ...(routerBias !== undefined && { routerBias }),
    ...(sharedExperts > 0 && { shared }),
  });
}
