/** A short name for the weights that run: it changes when their types do. */

import { createHash } from "node:crypto";
import type { Plan } from "../plan.js";

const known = new WeakMap<Plan, string>();

export function fingerprintOf(plan: Plan): string {
  const before = known.get(plan);
  if (before !== undefined) return before;
  const rows = plan.rows.map(({ tensor, type, algorithm, importance }) => [
    tensor,
    type,
    algorithm,
    importance,
  ]);
  const fingerprint = `isq-${createHash("sha256").update(JSON.stringify(rows)).digest("hex").slice(0, 12)}`;
  known.set(plan, fingerprint);
  return fingerprint;
}
