/** mistral.rs's list of the layers that ISQ touches: older files of its have places in this list instead of names. */

import type { Program, WeightSpec } from "../backends/program.js";

/** The head, then layer by layer the matrices in the order of the forward pass. */
export function listIsqLayers({ weights }: Pick<Program, "weights">): WeightSpec[] {
  const heads = weights.filter(({ role }) => role === "head");
  const linears = weights.filter(({ role }) => role === "linear" || role === "expert");
  return [...heads, ...linears];
}
