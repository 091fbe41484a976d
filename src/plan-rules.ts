/** Which tensors ISQ may touch, and what request and topology ask for each of them. */

import type { Program, WeightRole, WeightSpec } from "./backends/program.js";
import { IsqError } from "./errors.js";
import type { PlanRequest, PlanRow } from "./plan.js";
import { findRules } from "./topology.js";

/** `moqe` quantizes the routed experts of a mixture of experts and nothing else. */
export const ORGANIZATIONS = ["default", "moqe"] as const;
/** One of {@link ORGANIZATIONS}. */
export type Organization = (typeof ORGANIZATIONS)[number];

/** Why weights of a role are kept; null: they are quantized. */
const KEPT: Readonly<Record<WeightRole, string | null>> = {
  linear: null,
  expert: null,
  head: null,
  embedding: "embeddings are quantized only where a topology rule names them",
  norm: "norms are never quantized",
  bias: "biases are never quantized",
  router: "routers are never quantized",
};

/** Throws `option/invalid` for a word that is no organization, `option/unsupported` where the model has no experts. */
export function checkOrganization(organization: Organization = "default", { weights }: Program): void {
  parseOrganization(organization);
  if (organization === "default" || weights.some(({ role }) => role === "expert")) return;
  const message = "the organization moqe quantizes routed experts, and this model has none";
  throw new IsqError("option/unsupported", message, { field: "organization", value: organization });
}

/** Throws `option/invalid`. */
export function parseOrganization(text: string): Organization {
  const found = ORGANIZATIONS.find((name) => name === text);
  if (found) return found;
  const message = `organization must be ${ORGANIZATIONS.join(" or ")}, not ${JSON.stringify(text)}`;
  throw new IsqError("option/invalid", message, { field: "organization", value: text, limit: ORGANIZATIONS });
}

/** What the request and its rules ask for one weight, and why when that is nothing. */
export function applyRules(
  weight: WeightSpec,
  request: PlanRequest,
): Pick<PlanRow, "requested" | "reason" | "rule" | "overruled" | "device"> {
  const topology = request.topology ?? [];
  const [index, ...overruled] = findRules(topology, weight);
  const found = index === undefined ? undefined : topology[index];
  const never = whyKept(weight, request, found?.pattern !== undefined);
  const device = found?.device ?? restDevice(weight, request);
  // A rule about types alone decides nothing for a tensor whose type nothing can change.
  if (never !== null && found?.device === undefined) {
    return { requested: null, reason: never, rule: null, overruled: [], device };
  }
  const ruled = { rule: index ?? null, overruled, device };
  if (never !== null) return { requested: null, reason: never, ...ruled };
  if (found?.isq === "none")
    return { requested: null, reason: "the topology leaves it unquantized", ...ruled };
  const requested = found?.isq ?? request.type;
  return { requested, reason: requested === null ? "no type was asked for" : null, ...ruled };
}

/** Of a layer beyond those that are to be on the model's device. */
function restDevice({ layer }: WeightSpec, { deviceLayers = Infinity }: PlanRequest): "cpu" | null {
  return layer !== null && layer >= deviceLayers ? "cpu" : null;
}

/** Null for a weight whose type request and rules decide. */
function whyKept({ role }: WeightSpec, { organization }: PlanRequest, isNamed: boolean): string | null {
  const usual = KEPT[role];
  if (organization === "moqe") {
    return usual ?? (role === "expert" ? null : "the organization moqe quantizes routed experts only");
  }
  return role === "embedding" && isNamed ? null : usual;
}
