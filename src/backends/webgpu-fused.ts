/**
 * Steps of one token in few dispatches, where the adapter has subgroups of one size and the matrices are Q4_K: norm, quantization
 * of activations, products of one input and what follows them are one kernel; rotation, cache and attention another.
 */

import type { OpOf } from "./interpreter.js";
import type { Op, Slot } from "./program.js";
import { inputsOf } from "./slots.js";
import type { PlacedWeight } from "./webgpu-linear.js";
import { ACTIVATIONS, opWords, type Writer } from "./webgpu-ops.js";
import { groupsOf } from "./webgpu-recording.js";

/** Of gpu/fused.wgsl and gpu/attention-step.wgsl. */
const MOST_WIDTH = 16384;
const MOST_HEAD = 256;
const TEAMS = 8;
/** Workgroups of a dispatch. Each prepares the activations; of 1 to 14 times as many rows for each, this was best on an H100. */
const GROUPS = 256;

/** Does operations from `ops[at]` on together. Returns how many, or 0 when they are not such operations. */
export function fuseAt(writer: Writer, ops: readonly Op[], at: number): number {
  return fuseAttention(writer, ops, at) || fuseLinears(writer, ops, at);
}

function fuseAttention(writer: Writer, ops: readonly Op[], at: number): number {
  const [ropeQ, ropeK, attention] = ops.slice(at, at + 3);
  if (ropeQ?.kind !== "rope" || ropeK?.kind !== "rope" || attention?.kind !== "attention") return 0;
  const {
    q,
    k,
    v,
    out,
    layer,
    heads,
    kvHeads,
    headWidth,
    valueWidth,
    scale,
    softcap = 0,
    window,
  } = attention;
  const { start, interleaved, table, long } = ropeQ;
  const isSame = JSON.stringify({ ...ropeQ, x: 0 }) === JSON.stringify({ ...ropeK, x: 0 });
  const isWhole = ropeQ.x === q && ropeK.x === k && ropeQ.headWidth === headWidth && isSame;
  const { keyWidth, valueWidth: allValues, ropes } = writer.stage.program;
  const isQuads = [headWidth, valueWidth, keyWidth, allValues].every((width) => width % 4 === 0);
  const pairs = ropes[table].rotaryWidth / 2;
  const fits =
    Math.max(headWidth, valueWidth) <= MOST_HEAD &&
    (long === undefined || ropes[long.table].rotaryWidth === 2 * pairs);
  if (!isWhole || !isQuads || !fits || !isDead(ops, at + 3, q) || !isDead(ops, at + 3, k)) return 0;
  const flags = (interleaved ? 1 : 0) | (long ? 2 : 0);
  const words = opWords({
    tokens: 1,
    x: writer.at(q),
    y: writer.at(k),
    z: writer.at(v),
    out: writer.at(out),
    heads,
    kvHeads,
    headWidth,
    valueWidth,
    start,
    flags,
    window: window ?? 0,
    beyond: long?.beyond ?? 0,
    keyStride: keyWidth,
    valueStride: allValues,
    groups: pairs,
    scale,
    cap: softcap,
  });
  const { batch, slots, unused, angles, cache } = writer.stage;
  const resources = [batch, slots, angles[table], long ? angles[long.table] : unused[0], cache[layer]];
  writer.works.push({
    type: "attendStep",
    entryPoint: "attend_step",
    layout: "op",
    words,
    resources,
    groups: { x: heads },
  });
  writer.forget([out]);
  return 3;
}

/** What a run of products is made of. */
interface Run {
  readonly norm: OpOf<"rmsNorm"> | null;
  readonly linears: readonly OpOf<"linear">[];
  readonly weights: readonly PlacedWeight[];
  /** Of all these operations. */
  readonly length: number;
}

function fuseLinears(writer: Writer, ops: readonly Op[], at: number): number {
  const run = findRun(writer, ops, at);
  if (!run) return 0;
  const after = ops[at + run.length];
  const end = at + run.length + 1;
  const [first, second] = run.linears;
  if (
    run.linears.length === 2 &&
    after?.kind === "gate" &&
    after.gate === first.out &&
    after.up === second.out
  ) {
    if (!isDead(ops, end, second.out) || (after.out !== first.out && !isDead(ops, end, first.out))) return 0;
    push(writer, run, { gated: after });
    return run.length + 1;
  }
  const isSum =
    run.linears.length === 1 && after?.kind === "add" && after.b === first.out && after.a === after.out;
  if (isSum && after.out !== (run.norm ?? first).x && isDead(ops, end, first.out)) {
    push(writer, run, { added: after });
    return run.length + 1;
  }
  push(writer, run, {});
  return run.length;
}

function findRun(writer: Writer, ops: readonly Op[], at: number): Run | null {
  const before = ops[at];
  const norm = before.kind === "rmsNorm" && before.width === writer.width(before.x) ? before : null;
  const start = at + (norm ? 1 : 0);
  const linears: OpOf<"linear">[] = [];
  const weights: PlacedWeight[] = [];
  for (let i = start; i < ops.length && linears.length < 3; i++) {
    const op = ops[i];
    if (op.kind !== "linear" || op.bias !== undefined || writer.rows(op.out) !== 1) break;
    if (op.x !== (norm ? norm.out : (linears[0]?.x ?? op.x))) break;
    const rows = writer.stage.weight(op.weight).rows!;
    if (rows.module !== "Q4K" || rows.columns > MOST_WIDTH || rows.outputs % 4 !== 0) break;
    linears.push(op);
    weights.push(rows);
  }
  if (linears.length === 0) return null;
  // A norm in place is not done in the slot, which others must not read then.
  const isInPlace = norm !== null && norm.x === norm.out;
  if (isInPlace && !isDead(ops, start + linears.length, norm.out)) return null;
  return { norm, linears, weights, length: start - at + linears.length };
}

function push(
  writer: Writer,
  { norm, linears, weights }: Run,
  { gated, added }: { gated?: OpOf<"gate">; added?: OpOf<"add"> },
): void {
  const { gpu, slots, unused } = writer.stage;
  const x = norm ? norm.x : linears[0].x;
  const outs = linears.map(({ out }) => writer.at(out));
  if (gated) outs[0] = writer.at(gated.out);
  if (added) outs[0] = writer.at(added.out);
  const counts = weights.map(({ outputs }) => outputs);
  const words = new Uint32Array(16);
  const floats = new Float32Array(words.buffer);
  const total = gated ? counts[0] : counts.reduce((sum, count) => sum + count, 0);
  const { rows, steps } = shareOf(total, gated !== undefined, gpu.isSoftware ? 8 : GROUPS);
  words.set([
    0,
    weights[0].columns,
    writer.at(x),
    norm ? writer.at(norm.out) : 0,
    added ? writer.at(added.a) : 0,
  ]);
  words.set(outs, 5);
  words.set(gated ? counts.slice(0, 1) : counts, 8);
  words[11] = gated ? ACTIVATIONS.indexOf(gated.activation) : 0;
  floats[12] = norm?.epsilon ?? 0;
  floats[13] = added?.scale ?? 1;
  words[14] = steps;
  const constants = { NORMED: norm ? 1 : 0, ADDED: added ? 1 : 0, GATED: gated ? 1 : 0 };
  const matrices = [0, 1, 2].map((i) => weights[i]?.buffer ?? unused[0]);
  const resources = [...matrices, slots, norm ? writer.vector(norm.weight) : unused[0]];
  const groups = groupsOf(total, TEAMS * rows * steps);
  writer.works.push({
    type: `step${rows}`,
    entryPoint: "step_linear",
    constants,
    layout: "fused",
    words,
    resources,
    groups,
  });
  writer.forget([
    ...linears.map(({ out }) => out),
    ...(norm ? [norm.out] : []),
    ...(gated ? [gated.out] : []),
    ...(added ? [added.out] : []),
  ]);
}

/** Rows that a team takes at a time, and how many times. */
function shareOf(total: number, isGated: boolean, groups: number): { rows: 1 | 2 | 4; steps: number } {
  const each = Math.ceil(total / TEAMS / groups);
  let rows: 1 | 2 | 4 = each % 2 === 0 && !isGated ? 2 : 1;
  if (each >= 8 && !isGated) rows = 4;
  return { rows, steps: Math.ceil(each / rows) };
}

/** Whether no operation from `at` on reads a slot before it is written whole. */
function isDead(ops: readonly Op[], at: number, slot: Slot): boolean {
  for (const op of ops.slice(at)) {
    if (inputsOf(op).includes(slot)) return false;
    if (op.kind !== "copy" && "out" in op && op.out === slot) return true;
  }
  return true;
}
