/** mistral.rs's lists of the layers that ISQ touches: older files of its have places in a list instead of names. */

import type { Program, WeightSpec } from "../backends/program.js";

const EXPERT = /\.experts\.(\d+)\./;

/**
 * The lists that a file may have counted: the head, then layer by layer the matrices of attention and of the feed-forward
 * part; the same with routers, as for Mixtral; the head and the experts, as for the organization `moqe`.
 */
export function listIsqLayers({ weights }: Pick<Program, "weights">): readonly WeightSpec[][] {
  const listOf = (isIn: (weight: WeightSpec) => boolean) => [
    ...weights.filter(({ role }) => role === "head"),
    ...inOrder(weights.filter(isIn)),
  ];
  const isLinear = ({ role }: WeightSpec) => role === "linear" || role === "expert";
  const plain = listOf(isLinear);
  if (!weights.some(({ role }) => role === "expert")) return [plain];
  const experts = listOf(({ role }) => role === "expert");
  const routed = listOf((weight) => isLinear(weight) || weight.role === "router");
  return [plain, routed, experts];
}

/** The last parts of names, in the order of a layer's list. */
const ORDER = [
  ...["q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "k_proj", "v_proj", "qkv_proj"],
  ...["c_attn", "o_proj", "dense", "gate", "gate_proj", "w1", "w2", "w3", "gate_up_proj", "fc1", "c_fc"],
  ...["up_proj", "down_proj", "fc2", "c_proj"],
];

/** Layers one after the other; in each, what no expert has, then the experts, then those that are shared. */
function inOrder(weights: readonly WeightSpec[]): WeightSpec[] {
  const rankOf = ({ name, layer }: WeightSpec): number[] => {
    const expert = EXPERT.exec(name)?.[1];
    const shared = /\.shared_experts?\./.test(name);
    const group = expert === undefined ? (shared ? Number.POSITIVE_INFINITY : -1) : Number(expert);
    return [layer ?? -1, group, ORDER.indexOf(name.split(".").at(-2) ?? "")];
  };
  const ranked = weights.map((weight) => ({ weight, rank: rankOf(weight) }));
  ranked.sort((a, b) => {
    const at = a.rank.findIndex((value, i) => value !== b.rank[i]);
    return at < 0 ? 0 : a.rank[at] - b.rank[at];
  });
  return ranked.map(({ weight }) => weight);
}
