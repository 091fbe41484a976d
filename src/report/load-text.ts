/** What loading says about itself. */

import type { Backend } from "../backends/backend.js";
import type { Plan } from "../plan.js";
import type { QuantizeReport } from "../quantize.js";

export function describeBackend({ name, workers }: Backend): string {
  return workers === undefined ? name : `${name} (${workers})`;
}

export function describePlan({ requested, totals }: Plan, backend: string): string {
  const what =
    requested === null
      ? "no quantization"
      : `${totals.quantizedTensors} of ${totals.tensors} tensors to ${requested}`;
  return `plan: ${what} on ${backend}, ${totals.sourceByteLength} → ${totals.byteLength} bytes`;
}

export function describeReport({ tensors, seconds }: QuantizeReport): string {
  const again = tensors.reduce((sum, { reencodedBlocks }) => sum + reencodedBlocks, 0);
  const encoded = again === 0 ? "" : `; ${again} super-blocks encoded again without their importance`;
  return `placed ${tensors.length} tensors in ${seconds.toFixed(2)} s${encoded}`;
}
