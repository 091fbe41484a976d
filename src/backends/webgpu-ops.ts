/** The operations of a program as dispatches: one kernel each, and one more where activations are quantized. */

import { IsqError } from "../errors.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { type Kernels, runOp } from "./interpreter.js";
import type { Activation, Op, Program, Slot, WeightIndex } from "./program.js";
import { CACHE_BLOCK } from "./program.js";
import { outsOf } from "./slots.js";
import type { GpuDevice } from "./webgpu-device.js";
import { fuseAt } from "./webgpu-fused.js";
import { MOST_ROWS, type PlacedWeight, TEAM_THREADS } from "./webgpu-linear.js";
import { groupsOf, type Work, type Workgroups } from "./webgpu-recording.js";
import { type Parameters, parameterWords } from "./webgpu-run.js";
import type { GpuWeight } from "./webgpu-weights.js";

/** What the operations work on. Buffers are the session's; `slotAt` is a slot's first word in `slots`. */
export interface Stage {
  readonly gpu: GpuDevice;
  readonly program: Program;
  readonly tokens: number;
  readonly outputs: number;
  readonly batch: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly slotAt: readonly number[];
  /** Codes and sides of quantized activations. */
  readonly prepared: GPUBuffer;
  readonly sides: GPUBuffer;
  readonly angles: readonly GPUBuffer[];
  readonly cache: readonly GPUBuffer[];
  /** For bindings that a kernel does not use: one that is read, two that may be written. */
  readonly unused: readonly [GPUBuffer, GPUBuffer, GPUBuffer];
  weight(index: WeightIndex): GpuWeight;
}

/** Words of struct Parameters in gpu/op.wgsl, in its order. */
// biome-ignore format: a list of words
const FIELDS = [
  "zero", "tokens", "rows", "width", "x", "y", "z", "out", "outWidth", "count", "heads", "kvHeads", "headWidth",
  "valueWidth", "start", "flags", "window", "beyond", "xStart", "xStride", "outStart", "outStride", "keyStride",
  "valueStride", "activation", "groups", "groupsChosen", "scale", "epsilon", "cap", "spare0", "spare1",
] as const;
const FLOATS: readonly string[] = ["scale", "epsilon", "cap"];
type Fields = Partial<Record<(typeof FIELDS)[number], number>>;

/** In the order of activate_one in gpu/functions.wgsl. */
export const ACTIVATIONS: readonly Activation[] = ["sigmoid", "silu", "geluTanh", "geluErf"];
/** Limits of arrays in gpu/attention.wgsl and gpu/route.wgsl. */
const MOST_HEAD = 512;
const MOST_EXPERTS = 512;

export function opWords(fields: Fields): Uint32Array {
  const words = new Uint32Array(FIELDS.length);
  const floats = new Float32Array(words.buffer);
  for (const [i, name] of FIELDS.entries()) {
    const value = fields[name];
    if (value === undefined) continue;
    if (FLOATS.includes(name)) floats[i] = value;
    else words[i] = value;
  }
  return words;
}

/** The work of operations, in order. `count` of them, all when absent. */
export function worksOf(stage: Stage, ops: readonly Op[] = stage.program.ops): Work[] {
  const writer = new Writer(stage);
  const kernels = {
    ...tableKernels(writer),
    ...elementKernels(writer),
    ...moveKernels(writer),
    ...expertKernels(writer),
  };
  const fuses = stage.tokens === 1 && stage.gpu.lanes > 0;
  for (let i = 0; i < ops.length; ) {
    const fused = fuses ? fuseAt(writer, ops, i) : 0;
    if (fused === 0) {
      runOp(kernels, ops[i]);
      writer.forget(outsOf(ops[i]));
    }
    i += Math.max(1, fused);
  }
  return writer.works;
}

/** Workgroups of choose_some in gpu/choose.wgsl. */
const CHOOSERS = 64;

/** The largest of the logits of one row: its index in word `out` of the slots. */
export function chooseWorks(
  stage: Omit<Stage, "weight">,
  { at, count }: { readonly at: number; readonly count: number },
  out: number,
): Work[] {
  const { batch, slots, unused } = stage;
  const words = opWords({ tokens: 1, x: at, count, out });
  const resources = [batch, slots, unused[0], unused[0], unused[1]];
  const work = { type: "choose", layout: "op", words, resources } as const;
  return [
    { ...work, entryPoint: "choose_some", groups: { x: CHOOSERS } },
    { ...work, entryPoint: "choose", groups: { x: 1 } },
  ];
}

export class Writer {
  readonly stage: Stage;
  readonly works: Work[] = [];
  /** Whose quantized form is in the buffer for it. */
  #prepared: { readonly slot: Slot; readonly partner: string } | null = null;

  constructor(stage: Stage) {
    this.stage = stage;
  }

  /** What was made of slots that changed is of no use any more. */
  forget(slots: readonly Slot[]): void {
    if (this.#prepared && slots.includes(this.#prepared.slot)) this.#prepared = null;
  }

  rows(slot: Slot): number {
    const { rows, rowsPerToken = 1 } = this.stage.program.slots[slot];
    return rows === "tokens" ? this.stage.tokens * rowsPerToken : this.stage.outputs;
  }

  width(slot: Slot): number {
    return this.stage.program.slots[slot].width;
  }

  at(slot: Slot): number {
    return this.stage.slotAt[slot];
  }

  vector(weight: WeightIndex): GPUBuffer {
    return this.stage.weight(weight).vector!.buffer;
  }

  /** A kernel of gpu/op.wgsl. */
  op(
    type: "norms" | "elements" | "attention" | "route",
    entryPoint: string,
    fields: Fields,
    groups: Workgroups,
    { first, second, cache }: { first?: GPUBuffer; second?: GPUBuffer; cache?: GPUBuffer } = {},
  ): void {
    const { batch, slots, unused, tokens } = this.stage;
    const resources = [batch, slots, first ?? unused[0], second ?? unused[0], cache ?? unused[1]];
    const words = opWords({ tokens, ...fields });
    this.works.push({ type, entryPoint, layout: "op", words, resources, groups });
  }

  /** One thread for every element. */
  each(
    entryPoint: string,
    count: number,
    fields: Fields,
    buffers: { first?: GPUBuffer; second?: GPUBuffer } = {},
  ): void {
    this.op("elements", entryPoint, { count, ...fields }, groupsOf(count, 64), buffers);
  }

  /** Quantizes the rows of a slot, unless it was done before. */
  prepare(slot: Slot, partner: NonNullable<PlacedWeight["partner"]>): void {
    if (this.#prepared?.slot === slot && this.#prepared.partner === partner) return;
    const { slots, unused, prepared, sides } = this.stage;
    const count = this.rows(slot) * this.width(slot);
    const values = { buffer: slots, offset: 4 * this.at(slot), size: 4 * count };
    const resources = [values, unused[0], sides, prepared, unused[1]];
    const words = parameterWords({ count });
    const groups = groupsOf(count / 4, 256);
    this.works.push({ type: partner, entryPoint: "prepare", layout: "codec", words, resources, groups });
    this.#prepared = { slot, partner };
  }

  /** Products of a weight, for all rows or those that chose an expert. */
  multiply(
    { module, partner, outputs, constants = {}, buffer, parameters }: PlacedWeight,
    x: Slot,
    out: Slot,
    expert?: { readonly chosen: Slot; readonly index: number; readonly share: number },
  ): void {
    const { gpu, prepared, sides, slots, unused } = this.stage;
    const rows = this.rows(out);
    const chosen = expert && { chosenAt: this.at(expert.chosen), expert: expert.index, share: expert.share };
    const own: Parameters = {
      ...parameters,
      count: 0,
      rows,
      outAt: this.at(out),
      xAt: this.at(x),
      ...chosen,
    };
    if (partner !== null) this.prepare(x, partner);
    let entryPoint = rows === 1 ? "matvec" : "matmul";
    if (expert) entryPoint = "matmul_chosen";
    if (partner === null) entryPoint = "matmul_slots";
    const resources = [partner ? prepared : unused[0], buffer, partner ? sides : unused[0], slots];
    const groups = { ...groupsOf(outputs, TEAM_THREADS / gpu.team), z: Math.ceil(rows / MOST_ROWS) };
    const words = parameterWords(own);
    const all = { ...constants, TEAM: gpu.team };
    this.works.push({ type: module, entryPoint, constants: all, layout: "linear", words, resources, groups });
  }
}

function tableKernels(writer: Writer): Pick<Kernels, "embed" | "rmsNorm" | "layerNorm" | "linear"> {
  const { stage } = writer;
  return {
    embed({ weight, out, index, scale = 1 }) {
      const table = stage.weight(weight).table!;
      const { module, constants = {}, parameters, buffer } = table;
      const rows = writer.rows(out);
      const xAt = index === "tokens" ? 0 : stage.tokens;
      const words = parameterWords({
        ...parameters,
        count: 0,
        rows,
        xAt,
        outAt: writer.at(out),
        gain: scale,
      });
      const elements = rows * writer.width(out);
      const groups = groupsOf(isBlockType(module) ? elements / 4 : elements, 256); // four elements a thread, or one
      const resources = [stage.batch, buffer, stage.unused[1], stage.slots, stage.unused[2]];
      writer.works.push({
        type: module,
        entryPoint: "embed",
        constants,
        layout: "codec",
        words,
        resources,
        groups,
      });
    },
    rmsNorm({ x, weight, out, width, epsilon }) {
      const rows = (writer.rows(x) * writer.width(x)) / width;
      const fields = { rows, width, x: writer.at(x), out: writer.at(out), epsilon };
      writer.op("norms", "rms_norm", fields, groupsOf(rows), { first: writer.vector(weight) });
    },
    layerNorm({ x, weight, bias, out, epsilon }) {
      const rows = writer.rows(x);
      const fields = { rows, width: writer.width(x), x: writer.at(x), out: writer.at(out), epsilon };
      const vectors = { first: writer.vector(weight), second: writer.vector(bias) };
      writer.op("norms", "layer_norm", fields, groupsOf(rows), vectors);
    },
    linear({ x, weight, bias, out }) {
      if (writer.rows(out) === 0) return;
      writer.multiply(stage.weight(weight).rows!, x, out);
      if (bias === undefined) return;
      const width = writer.width(out);
      const first = writer.vector(bias);
      writer.each("add_bias", writer.rows(out) * width, { out: writer.at(out), width }, { first });
    },
  };
}

function elementKernels(writer: Writer): Pick<Kernels, "gate" | "activate" | "add" | "scale" | "softcap"> {
  const each = (entryPoint: string, out: Slot, fields: Fields) =>
    writer.each(entryPoint, writer.rows(out) * writer.width(out), { ...fields, out: writer.at(out) });
  const kindOf = (activation: Activation) => ({ activation: ACTIVATIONS.indexOf(activation) });
  return {
    gate: ({ gate, up, out, activation }) =>
      each("gate", out, { x: writer.at(gate), y: writer.at(up), ...kindOf(activation) }),
    activate: ({ x, out, activation }) => each("activate", out, { x: writer.at(x), ...kindOf(activation) }),
    add: ({ a, b, out, scale = 1 }) => each("add", out, { x: writer.at(a), y: writer.at(b), scale }),
    scale: ({ x, out, factor }) => each("scale", out, { x: writer.at(x), scale: factor }),
    softcap: ({ x, out, cap }) => each("softcap", out, { x: writer.at(x), cap }),
  };
}

function moveKernels(writer: Writer): Pick<Kernels, "copy" | "select" | "rope" | "attention"> {
  const { stage } = writer;
  return {
    copy({ x, out, count: heads, width, xStart, xStride, outStart, outStride }) {
      const fields = {
        x: writer.at(x),
        out: writer.at(out),
        heads,
        width,
        xStart,
        xStride,
        outStart,
        outStride,
      };
      const widths = { headWidth: writer.width(x), outWidth: writer.width(out) };
      writer.each("copy", writer.rows(x) * heads * width, { ...fields, ...widths });
    },
    select({ x, out }) {
      const width = writer.width(out);
      writer.each("select_rows", stage.outputs * width, { x: writer.at(x), out: writer.at(out), width });
    },
    rope({ x, headWidth, start, interleaved, table, long }) {
      const pairs = stage.program.ropes[table].rotaryWidth / 2;
      const heads = writer.width(x) / headWidth;
      const flags = (interleaved ? 1 : 0) | (long ? 2 : 0);
      const fields = {
        x: writer.at(x),
        width: pairs,
        heads,
        headWidth,
        start,
        flags,
        beyond: long?.beyond ?? 0,
      };
      const angles = { first: stage.angles[table], ...(long && { second: stage.angles[long.table] }) };
      writer.each("rope", writer.rows(x) * heads * pairs, fields, angles);
    },
    attention({ q, k, v, out, layer, heads, kvHeads, headWidth, valueWidth, scale, softcap = 0, window }) {
      checkMost("headWidth", Math.max(headWidth, valueWidth), MOST_HEAD);
      const { program, tokens } = stage;
      const at = { x: writer.at(q), y: writer.at(k), z: writer.at(v), out: writer.at(out) };
      const strides = { keyStride: program.keyWidth, valueStride: program.valueWidth };
      const shape = { heads, kvHeads, headWidth, valueWidth, window: window ?? 0, scale, cap: softcap };
      const fields = { ...at, ...strides, ...shape };
      const cache = stage.cache[layer];
      const stored = tokens * kvHeads * (headWidth + valueWidth);
      writer.op("attention", "store", fields, groupsOf(stored, 64), { cache });
      const groups = { x: heads, y: Math.min(tokens, 32768), z: Math.ceil(tokens / 32768) };
      writer.op("attention", "attend", fields, groups, { cache });
    },
  };
}

function expertKernels(writer: Writer): Pick<Kernels, "route" | "expertLinear" | "combine"> {
  const { stage } = writer;
  return {
    route({ x, chosen, weights, router }) {
      const width = writer.width(x);
      checkMost("experts", width, MOST_EXPERTS);
      const rows = writer.rows(x);
      const slots = { x: writer.at(x), out: writer.at(chosen), z: writer.at(weights) };
      const fields = { ...slots, rows, width, outWidth: writer.width(chosen) };
      if (router.kind === "sparseMixer") {
        writer.op("route", "route_sparsely", { ...fields, scale: 2 * router.jitter }, groupsOf(rows));
        return;
      }
      const { scores, bias, groups, normalize, scale } = router;
      const flags =
        (scores === "sigmoid" ? 1 : 0) |
        (bias === undefined ? 0 : 2) |
        (normalize ? 4 : 0) |
        (groups?.rate === "twoLargest" ? 8 : 0);
      const grouped = groups && { groups: groups.count, groupsChosen: groups.chosen };
      const numbers = { flags, scale, epsilon: normalize?.epsilon ?? 0 };
      const vectors = bias === undefined ? {} : { first: writer.vector(bias) };
      writer.op("route", "route_scores", { ...fields, ...grouped, ...numbers }, groupsOf(rows), vectors);
    },
    expertLinear({ x, chosen, experts, out }) {
      const share = writer.rows(out) / writer.rows(x);
      for (const [index, weight] of experts.entries()) {
        writer.multiply(stage.weight(weight).rows!, x, out, { chosen, index, share });
      }
    },
    combine({ x, weights, out }) {
      const width = writer.width(out);
      const fields = { x: writer.at(x), y: writer.at(weights), out: writer.at(out), width };
      writer.each("combine", writer.rows(out) * width, { ...fields, heads: writer.width(weights) });
    },
  };
}

const isBlockType = (module: PlacedWeight["module"]): boolean =>
  module in TYPES && TYPES[module as IsqType].family === "block";

function checkMost(field: string, value: number, limit: number): void {
  if (value <= limit) return;
  const message = `${field} is ${value}, and at most ${limit} on a GPU`;
  throw new IsqError("option/unsupported", message, { field, value, limit });
}

/** Bytes of a cache block of one layer. */
export const cacheBlockBytes = ({ keyWidth, valueWidth }: Program): number =>
  4 * CACHE_BLOCK * (keyWidth + valueWidth);
