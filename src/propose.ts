/**
 * Proposing types: every part of a model gets one, so that all of them together do least harm at a given size. Harm is taken to
 * add up, which it does only roughly: what is proposed has to be measured as a whole.
 */

import { IsqError } from "./errors.js";
import type { IsqType } from "./quants/table.js";

/** What a part of a model may become, and what that does alone. */
export interface PartOption {
  /** Null: as it is. */
  readonly type: IsqType | null;
  readonly bits: number;
  /** Mean KL divergence from the unquantized model, nats. */
  readonly divergence: number;
}

/** A tensor, or the experts of one layer that do the same. */
export interface ModelPart {
  /** The tensor's name, with `*` for the expert. */
  readonly name: string;
  readonly tensors: readonly string[];
  readonly layer: number | null;
  readonly elements: number;
  readonly options: readonly PartOption[];
}

export interface ProposedPart extends PartOption {
  readonly part: ModelPart;
}

/** A type for every part, and what the mix is expected to cost. */
export interface Proposal {
  readonly parts: readonly ProposedPart[];
  readonly bitsPerWeight: number;
  /** Sum of what the parts do alone. */
  readonly predicted: number;
}

export interface Budget {
  /** For all weights of the model. */
  readonly targetBits: number;
  /** Weights of the model, and bits of those that are no part. */
  readonly elements: number;
  readonly fixedBits: number;
}

/**
 * Chooses an option for every part. Starts with the smallest ones and takes the step that helps most for its bits, until no
 * step fits any more: of options on a convex curve, which only such steps are considered of, this is the best choice but for
 * the rest of the budget. Throws `option/invalid` when the smallest options are too large.
 */
export function proposeTypes(parts: readonly ModelPart[], budget: Budget): Proposal {
  const curves = parts.map(({ options }) => lowerHull(options));
  const total = (bits: number) => (budget.fixedBits + bits) / budget.elements;
  const chosen = curves.map(() => 0);
  checkBudget(
    curves.map(([first]) => first.bits),
    budget,
  );
  let bits = curves.reduce((sum, [first]) => sum + first.bits, 0);
  const open = new Set(curves.keys());
  for (;;) {
    let best = -1;
    let bestGain = 0;
    for (const part of open) {
      const [from, to] = [curves[part][chosen[part]], curves[part][chosen[part] + 1]];
      if (!to || total(bits + to.bits - from.bits) > budget.targetBits) {
        open.delete(part);
        continue;
      }
      const gain = (from.divergence - to.divergence) / (to.bits - from.bits);
      if (gain > bestGain) [best, bestGain] = [part, gain];
    }
    if (best < 0) break;
    bits += curves[best][chosen[best] + 1].bits - curves[best][chosen[best]].bits;
    chosen[best]++;
  }
  const proposed = parts.map((part, i) => ({ part, ...curves[i][chosen[i]] }));
  const predicted = proposed.reduce((sum, { divergence }) => sum + divergence, 0);
  return { parts: proposed, bitsPerWeight: total(bits), predicted };
}

/** Throws `option/invalid` when the smallest options of all parts are too large. */
export function checkBudget(smallest: readonly number[], { targetBits, elements, fixedBits }: Budget): void {
  const least = (fixedBits + smallest.reduce((sum, bits) => sum + bits, 0)) / elements;
  if (least <= targetBits) return;
  const message = `${targetBits} bits per weight cannot be reached: the smallest types give ${least.toFixed(4)}`;
  throw new IsqError("option/invalid", message, { field: "targetBits", value: targetBits, limit: least });
}

/** Options that no mix of two others beats, by size: each step down in divergence costs more per nat than the one before. */
export function lowerHull(options: readonly PartOption[]): PartOption[] {
  const sorted = [...options].sort((a, b) => a.bits - b.bits || a.divergence - b.divergence);
  const hull: PartOption[] = [];
  for (const option of sorted) {
    const last = hull.at(-1);
    if (last && (option.divergence >= last.divergence || option.bits === last.bits)) continue;
    while (hull.length > 1 && slope(hull.at(-2)!, hull.at(-1)!) >= slope(hull.at(-2)!, option)) hull.pop();
    hull.push(option);
  }
  return hull;
}

/** Nats per bit; negative. */
const slope = (a: PartOption, b: PartOption) => (b.divergence - a.divergence) / (b.bits - a.bits);

/** Layers in one pattern: their names stay well below the limit of a pattern. */
const LAYERS_PER_RULE = 60;

/**
 * A topology file of a proposal: rules by type, tensors of many layers in one pattern. Parts that stay as they are are named as
 * well, so that `--isq` does not touch them.
 */
export function formatTopology({ parts }: Proposal, comment: readonly string[] = []): string {
  const groups = new Map<
    string,
    { readonly type: string; readonly name: string; readonly layers: number[] }
  >();
  for (const { part, type } of parts) {
    const name = part.layer === null ? part.name : part.name.replace(`.${part.layer}.`, ".#.");
    const group = { type: type ?? "none", name, layers: [] as number[] };
    const key = `${group.type} ${name}`;
    if (!groups.has(key)) groups.set(key, group);
    if (part.layer !== null) groups.get(key)!.layers.push(part.layer);
  }
  const rules = [...groups.values()].flatMap(({ type, name, layers }) => {
    if (layers.length === 0) return [formatRule(name, "", type)];
    const runs: number[][] = [];
    for (let i = 0; i < layers.length; i += LAYERS_PER_RULE) runs.push(layers.slice(i, i + LAYERS_PER_RULE));
    return runs.map((run) =>
      formatRule(name, run.length === 1 ? String(run[0]) : `(${run.join("|")})`, type),
    );
  });
  return [...comment.map((line) => `# ${line.replace(/\s/g, " ")}`), ...rules, ""].join("\n");
}

function formatRule(name: string, layers: string, type: string): string {
  const escaped = name.replace(/[\\^$.|?+()[\]{}]/g, "\\$&");
  const pattern = escaped.replace("#", layers).replace("*", "\\d+");
  return `'/^${pattern}$/': {isq: ${type}}`;
}
