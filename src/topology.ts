/**
 * Topology rules: which type and which device each tensor gets, over the default of the whole model.
 *
 * Precedence: a rule that names tensors by pattern beats one that names layers, and within each kind the later
 * declaration beats the earlier. One rule decides for a tensor. A rule without `isq` inherits the default type, and so do
 * tensors no rule covers; `isq: "none"` leaves them unquantized. A rule without `device` leaves the tensor where the model
 * is. Embeddings and the head are in no layer, so only patterns reach them.
 */

import { IsqError } from "./errors.js";
import { LIMITS } from "./limits.js";
import { compilePattern, type NamePattern } from "./pattern.js";
import type { IsqType } from "./quants/table.js";
import { parseType } from "./quants/tensor.js";

/** `cpu`, `webgpu` (the first adapter) or `webgpu[N]`. */
export type Device = "cpu" | "webgpu" | `webgpu[${number}]`;

/** Devices in words, for errors. */
export const DEVICE_CHOICES: readonly string[] = ["cpu", "webgpu", "webgpu[N]"];

/** What a rule says of the tensors that it covers, by layers or by name. */
export interface TopologyRule {
  /** Layers `start` (included) to `end` (excluded). */
  readonly layers?: { readonly start: number; readonly end: number };
  /** Matched against the tensor's full name, anywhere in it. */
  readonly pattern?: NamePattern;
  readonly isq?: IsqType | "none";
  readonly device?: Device;
}

/** What finds a tensor's rules. */
export interface TopologyTarget {
  readonly name: string;
  readonly layer: number | null;
}

/** Indices of the rules that cover a tensor, the one that decides first. */
export function findRules(rules: readonly TopologyRule[], { name, layer }: TopologyTarget): number[] {
  const indices = rules.map((_, index) => index).reverse();
  const matches = indices.filter((index) => rules[index].pattern?.test(name));
  const covers = indices.filter((index) => {
    const range = rules[index].layers;
    return range !== undefined && layer !== null && layer >= range.start && layer < range.end;
  });
  return [...matches, ...covers];
}

/**
 * Checks rules that come from code. Throws `topology/selector` unless a rule has either layers or a pattern,
 * `topology/layers` for a range that is empty or beyond `layerCount`, `topology/pattern`, `type/unknown`,
 * `topology/device`.
 */
export function checkTopology(rules: readonly TopologyRule[], layerCount: number): void {
  for (const [index, { layers, pattern, isq, device }] of rules.entries()) {
    if ((layers === undefined) === (pattern === undefined)) {
      const message = `topology rule ${index + 1} must have either layers or a pattern`;
      throw new IsqError("topology/selector", message, { field: "layers", rule: index });
    }
    if (layers) checkLayers(layers.start, layers.end, layerCount, `topology rule ${index + 1}`);
    // A global or sticky RegExp remembers where it stopped, so its answers would depend on the order of the questions.
    if (pattern instanceof RegExp && (pattern.global || pattern.sticky)) {
      const message = `the pattern ${pattern} cannot be used: leave the flags g and y out`;
      throw new IsqError("topology/pattern", message, {
        field: "pattern",
        value: String(pattern),
        rule: index,
      });
    }
    if (isq !== undefined && isq !== "none") parseType(isq);
    if (device !== undefined) parseDevice(device);
  }
}

/** Parses a selector, `START-END`, `LAYER` or `/pattern/`, of a topology file. Throws `topology/*`. */
export function parseSelector(selector: string): Pick<TopologyRule, "layers" | "pattern"> {
  const pattern = /^\/(.+)\/$/s.exec(selector);
  if (pattern) return { pattern: compilePattern(pattern[1]) };
  const range = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(selector);
  if (!range) {
    const message = `${JSON.stringify(selector)} selects nothing; write START-END, LAYER or /pattern/`;
    throw new IsqError("topology/selector", message, { field: "selector", value: selector });
  }
  const start = Number(range[1]);
  const end = range[2] === undefined ? start + 1 : Number(range[2]);
  checkLayers(start, end, LIMITS.configLayers, "the topology");
  return { layers: { start, end } };
}

/** Parses `isq` of a topology file: a type's name or `none`, any case. Throws `type/unknown`. */
export function parseRuleType(value: string): IsqType | "none" {
  return value.toLowerCase() === "none" ? "none" : parseType(value);
}

/** Parses `device`. Throws `topology/device` with the choices, also for the devices of other programs. */
export function parseDevice(value: string): Device {
  if (/^(cpu|webgpu(\[\d{1,3}\])?)$/.test(value)) return value as Device;
  const message = `there is no device ${JSON.stringify(value)} here; the devices are ${DEVICE_CHOICES.join(", ")}`;
  throw new IsqError("topology/device", message, { field: "device", value, limit: DEVICE_CHOICES });
}

/** Whether a device is the one that a backend works on; `chosen` is how that was asked for. */
export function isHere(device: Device, backend: string, chosen: string = "auto"): boolean {
  if (backend !== "webgpu") return device === "cpu";
  const number = (name: string) => /\[(\d+)\]$/.exec(name)?.[1] ?? "0";
  return device !== "cpu" && Number(number(device)) === Number(number(chosen));
}

function checkLayers(start: number, end: number, limit: number, what: string): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (whole && start >= 0 && start < end && end <= limit) return;
  const reason =
    whole && end > limit
      ? `the model has ${limit}, 0 to ${limit - 1}`
      : "the end is excluded and above the start";
  const message = `${what} names layers ${start}-${end}: ${reason}`;
  throw new IsqError("topology/layers", message, { field: "layers", value: [start, end], limit });
}
