/**
 * A program on two backends: operations run where their weights are. It becomes a chain of programs; what one leaves for the
 * next are activations that are copied over the border, as rows of a table that the next one's tokens count through.
 */

import { IsqError } from "../errors.js";
import type { Backend, Session, SessionOptions, Tensor } from "./backend.js";
import { callLengthsOf } from "./interpreter.js";
import type { Batch, Op, Program, Slot, SlotSpec, WeightIndex, WeightSpec } from "./program.js";
import { inputsOf, outsOf, weightsOf } from "./slots.js";

/** Rows that go over a border at a time; longer steps are run in pieces. */
const BORDER_ROWS = 64;

/** One program of the chain. */
interface Part {
  readonly program: Program;
  readonly second: boolean;
  /** By index in the part; those after the original ones are tables of activations. */
  readonly weights: readonly WeightIndex[];
  readonly inputs: readonly Slot[];
  readonly outputs: readonly Slot[];
}

/** A backend like `first`, whose sessions run the weights of `onSecond` on `second`. Neither is its to dispose. */
export function splitBackend(
  first: Backend,
  second: Backend,
  onSecond: (weight: WeightIndex) => boolean,
): Backend {
  return {
    ...first,
    open: (program, options) => openSplit(splitProgram(program, onSecond), [first, second], options),
    dispose() {},
  };
}

async function openSplit(
  parts: readonly Part[],
  backends: readonly [Backend, Backend],
  options: SessionOptions,
): Promise<Session> {
  const sessions: Session[] = [];
  for (const { program, second } of parts)
    sessions.push(await backends[second ? 1 : 0].open(program, options));
  const each = async (work: (session: Session) => unknown) => {
    for (const session of sessions) await work(session);
  };
  /** Parts that have a weight, with its index there. */
  const homes = (weight: WeightIndex) =>
    parts.flatMap(({ weights }, i) => {
      const own = weights.indexOf(weight);
      return own < 0 ? [] : [{ session: sessions[i], own }];
    });
  const homesOf = (weight: WeightIndex) => {
    const found = homes(weight);
    if (found.length > 0) return found;
    throw new IsqError("tensor/missing", `the program has no weight ${weight}`, {
      field: "weight",
      value: weight,
    });
  };
  return {
    async place(weight, tensor) {
      for (const { session, own } of homesOf(weight)) await session.place(own, tensor);
    },
    read: (weight) => homesOf(weight)[0].session.read(homesOf(weight)[0].own),
    hold: () => each((session) => session.hold()),
    commit: () => each((session) => session.commit()),
    discard: () => each((session) => session.discard()),
    async run(batch, signal) {
      const { vocabulary } = parts[parts.length - 1].program;
      const logits = new Float32Array(batch.outputs.length * vocabulary);
      let at = 0;
      for (const piece of piecesOf(batch)) {
        const own = await runPiece(parts, sessions, piece, signal);
        logits.set(own, at);
        at += own.length;
      }
      return logits;
    },
    dispose: () => each((session) => session.dispose()),
  };
}

/** Runs of at most BORDER_ROWS rows, in order. */
function piecesOf(batch: Batch): Batch[] {
  const { tokens, positions, sequences, outputs } = batch;
  const callLengths = callLengthsOf(batch);
  const pieces: Batch[] = [];
  for (let from = 0; from < tokens.length; from += BORDER_ROWS) {
    const to = Math.min(tokens.length, from + BORDER_ROWS);
    pieces.push({
      ...batch,
      tokens: tokens.subarray(from, to),
      positions: positions.subarray(from, to),
      sequences: sequences.subarray(from, to),
      callLengths: callLengths.subarray(from, to),
      outputs: outputs.filter((row) => row >= from && row < to).map((row) => row - from),
    });
  }
  return pieces;
}

async function runPiece(
  parts: readonly Part[],
  sessions: readonly Session[],
  batch: Batch,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const rows = batch.tokens.length;
  const all = Int32Array.from(batch.tokens, (_, row) => row);
  const known = new Map<Slot, Float32Array>();
  for (const [i, part] of parts.entries()) {
    const session = sessions[i];
    const first = part.weights.length;
    for (const [n, slot] of part.inputs.entries()) {
      const table = tableOf(part.program.weights[first + n], known.get(slot)!);
      await session.place(first + n, table);
    }
    const isLast = i === parts.length - 1;
    const own = { ...batch, ...(i > 0 && { tokens: all }), ...(!isLast && { outputs: all }) };
    const result = await session.run(own, signal);
    if (isLast) return result;
    let column = 0;
    for (const slot of part.outputs) {
      const { width } = part.program.slots[slot];
      known.set(slot, columnsOf(result, rows, part.program.vocabulary, column, width));
      column += width;
    }
  }
  return new Float32Array(0);
}

function tableOf({ shape }: WeightSpec, values: Float32Array): Tensor {
  const table = new Float32Array(shape[0] * shape[1]);
  table.set(values);
  return { type: "F32", shape, data: new Uint8Array(table.buffer) };
}

function columnsOf(
  all: Float32Array,
  rows: number,
  stride: number,
  column: number,
  width: number,
): Float32Array {
  const own = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    own.set(all.subarray(r * stride + column, r * stride + column + width), r * width);
  }
  return own;
}

/** The chain. Throws `option/unsupported` where a border would cut through a mixture of experts. */
export function splitProgram(program: Program, onSecond: (weight: WeightIndex) => boolean): Part[] {
  const { ops } = program;
  const isSecond = placesOf(program, onSecond);
  const parts: Part[] = [];
  for (let from = 0; from < ops.length; ) {
    let to = from + 1;
    while (to < ops.length && isSecond[to] === isSecond[from]) to++;
    parts.push(makePart(program, from, to, isSecond[from]));
    from = to;
  }
  return parts;
}

/** Where each operation runs. Those without weights stay with the one before; all after `select` are where the head is. */
function placesOf({ ops, weights }: Program, onSecond: (weight: WeightIndex) => boolean): boolean[] {
  const select = ops.findIndex(({ kind }) => kind === "select");
  const head = weights.findIndex(({ role }) => role === "head");
  let place = false;
  return ops.map((op, i) => {
    if (i === select) place = onSecond(head);
    const [own] = weightsOf(op);
    if (own !== undefined && (select < 0 || i < select)) place = onSecond(own);
    return place;
  });
}

function makePart(program: Program, from: number, to: number, second: boolean): Part {
  const ops = program.ops.slice(from, to);
  const isLast = to === program.ops.length;
  const inputs = from === 0 ? [] : liveAt(program, from);
  const written = new Set(ops.flatMap((op) => [...outsOf(op)]));
  const outputs = isLast ? [] : liveAt(program, to).filter((slot) => written.has(slot));
  for (const slot of [...inputs, ...outputs]) checkBorder(program.slots[slot]);
  const weights = [...new Set(ops.flatMap((op) => [...weightsOf(op)]))].sort((a, b) => a - b);
  const slots: SlotSpec[] = [...program.slots];
  const tables: WeightSpec[] = inputs.map((slot) => ({
    name: `activations of ${program.slots[slot].name}`,
    shape: [BORDER_ROWS, program.slots[slot].width],
    role: "embedding",
    layer: null,
  }));
  const brought: Op[] = inputs.map((out, n) => ({
    kind: "embed",
    weight: weights.length + n,
    out,
    index: "tokens",
  }));
  const layers = ops.flatMap((op) => (op.kind === "attention" ? [op.layer] : []));
  const own = ops.map((op) =>
    moveOp(
      op,
      (weight) => weights.indexOf(weight),
      (layer) => layers.indexOf(layer),
    ),
  );
  const sent = isLast ? { ops: [], logits: program.logits } : sendSlots(slots, outputs);
  return {
    second,
    weights,
    inputs,
    outputs,
    program: {
      ...program,
      weights: [...weights.map((weight) => program.weights[weight]), ...tables],
      slots,
      ops: [...brought, ...own, ...sent.ops],
      logits: sent.logits,
      vocabulary: slots[sent.logits].width,
      tokenRows: from === 0 ? program.vocabulary : BORDER_ROWS,
      cacheLayers: layers.length,
    },
  };
}

/** Operations that put slots side by side and hand them out as logits would be. */
function sendSlots(slots: SlotSpec[], outputs: readonly Slot[]): { ops: Op[]; logits: Slot } {
  const width = outputs.reduce((sum, slot) => sum + slots[slot].width, 0);
  const gathered = slots.push({ name: "leaving", width, rows: "tokens" }) - 1;
  const logits = slots.push({ name: "left", width, rows: "outputs" }) - 1;
  let outStart = 0;
  const ops = outputs.map((x): Op => {
    const own = slots[x].width;
    outStart += own;
    const from = { x, xStart: 0, xStride: 0, count: 1, width: own };
    return { kind: "copy", ...from, out: gathered, outStart: outStart - own, outStride: 0 };
  });
  return { ops: [...ops, { kind: "select", x: gathered, out: logits }], logits };
}

/** Slots whose values operations from `at` on read before they write them whole. */
function liveAt({ ops }: Program, at: number): Slot[] {
  const live = new Set<Slot>();
  const written = new Set<Slot>();
  for (const op of ops.slice(at)) {
    for (const slot of inputsOf(op)) if (!written.has(slot)) live.add(slot);
    for (const slot of outsOf(op)) if (op.kind !== "copy") written.add(slot);
  }
  const before = new Set(ops.slice(0, at).flatMap((op) => [...outsOf(op)]));
  return [...live].filter((slot) => before.has(slot)).sort((a, b) => a - b);
}

function checkBorder({ name, rows, rowsPerToken = 1 }: SlotSpec): void {
  if (rows === "tokens" && rowsPerToken === 1) return;
  const message = `devices change where ${name} has rows of its own; put all experts of a layer on one device`;
  throw new IsqError("option/unsupported", message, { field: "device", value: name });
}

function moveOp(op: Op, weight: (index: WeightIndex) => WeightIndex, layer: (index: number) => number): Op {
  switch (op.kind) {
    case "attention":
      return { ...op, layer: layer(op.layer) };
    case "expertLinear":
      return { ...op, experts: op.experts.map(weight) };
    case "route":
      return op.router.kind === "scores" && op.router.bias !== undefined
        ? { ...op, router: { ...op.router, bias: weight(op.router.bias) } }
        : op;
    case "layerNorm":
      return { ...op, weight: weight(op.weight), bias: weight(op.bias) };
    case "linear":
      return { ...op, weight: weight(op.weight), ...(op.bias !== undefined && { bias: weight(op.bias) }) };
    case "embed":
    case "rmsNorm":
      return { ...op, weight: weight(op.weight) };
    default:
      return op;
  }
}
