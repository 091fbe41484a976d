/**
 * The head of a model whose embedding is its head too, in a GGUF file: it needs no tensor where it would have the embedding's
 * bytes, and cannot have one where the files of an architecture know none.
 */

import { IsqError } from "./errors.js";
import type { ModelConfig } from "./model/config.js";
import { ggufArchitectureOf } from "./model/gguf/architectures.js";
import { assemblePlan, type Plan, type PlanRow } from "./plan.js";

/** Throws `plan/strict` for a head that does not become what was asked for, where the plan is to be strict. */
export function shareHead(plan: Plan, config: ModelConfig, { strict = false } = {}): Plan {
  const head = plan.rows.find(({ role, source, tensor }) => role === "head" && source.name !== tensor);
  const embedding = plan.rows.find(({ tensor }) => tensor === head?.source.name);
  if (!head || !embedding || head.byteLength === 0) return plan;
  const same =
    head.type === embedding.type &&
    head.algorithm === embedding.algorithm &&
    [head, embedding].every(({ importance }) => importance !== "used");
  const { name, hasOwnHead = true } = ggufArchitectureOf(config);
  if (!same && hasOwnHead) return plan;
  const reason = same
    ? `has the data of ${embedding.tensor}`
    : `has the data of ${embedding.tensor}, because ${name} files have no tensor for it`;
  if (!same && strict) {
    const message = `${head.tensor}: ${reason}; the plan is strict`;
    const details = { tensor: head.tensor, field: "strict", value: reason };
    throw new IsqError("plan/strict", message, details);
  }
  const { type, algorithm, bitsPerWeight } = embedding;
  const shared: PlanRow = {
    ...head,
    ...{ type, algorithm, bitsPerWeight, importance: "none", byteLength: 0, reason, substituted: !same },
  };
  return assemblePlan({ ...plan, rows: plan.rows.map((row) => (row === head ? shared : row)) });
}
