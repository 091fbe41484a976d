/** The operations of a member but those of experts: its share of each. */

import { TYPES } from "../quants/table.js";
import type { Kernels, OpOf } from "./interpreter.js";
import { rowsOf } from "./interpreter.js";
import type { Activation, Slot } from "./program.js";
import { isDense } from "./reference-linear.js";
import type { Columns } from "./schedule.js";
import { decodeGroupedRow, decodeRun, unitOf } from "./wasm-decode.js";
import { expertKernels } from "./wasm-experts.js";
import { multiplyRows } from "./wasm-product.js";
import { bring, columnwise, inRuns, type MemberState, observeRows } from "./wasm-state.js";

/** In the order of the numbers in assembly/functions.ts. */
const ACTIVATION_KINDS: readonly Activation[] = ["sigmoid", "silu", "geluTanh", "geluErf"];

export function createKernels(state: MemberState): Kernels {
  return {
    ...elementKernels(state),
    ...expertKernels(state),
    embed: (op) => embed(state, op),
    rmsNorm: (op) =>
      norm(state, op, op.width, (bank, x, out, runs) =>
        bank.call("rms_norm", x, state.weights.vector(op.weight).address, out, runs, op.width, op.epsilon),
      ),
    layerNorm(op) {
      const width = state.slots.width(op.x);
      const [weight, bias] = [op.weight, op.bias].map((index) => state.weights.vector(index).address);
      norm(state, op, width, (bank, x, out, runs) =>
        bank.call("layer_norm", x, weight, bias, out, runs, width, op.epsilon),
      );
    },
    linear: (op) => linear(state, op),
    rope: (op) => rope(state, op),
    attention: (op) => state.cache.attend(op, state.batch),
    copy: (op) => copy(state, op),
    select: (op) => select(state, op),
  };
}

function elementKernels(
  state: MemberState,
): Pick<Kernels, "gate" | "activate" | "add" | "scale" | "softcap"> {
  const kindOf = (activation: Activation) => ACTIVATION_KINDS.indexOf(activation);
  return {
    gate: ({ gate, up, out, activation }) =>
      columnwise(state, [gate, up], out, (bank, [a, b], to, count) =>
        bank.call("gate_rows", a, b, to, count, kindOf(activation)),
      ),
    activate: ({ x, out, activation }) =>
      columnwise(state, [x], out, (bank, [a], to, count) =>
        bank.call("activate_rows", a, to, count, kindOf(activation)),
      ),
    add: ({ a: first, b: second, out, scale }) =>
      columnwise(state, [first, second], out, (bank, [a, b], to, count) =>
        scale === undefined
          ? bank.call("add_rows", a, b, to, count)
          : bank.call("add_scaled_rows", a, b, to, count, scale),
      ),
    scale: ({ x, out, factor }) =>
      columnwise(state, [x], out, (bank, [a], to, count) => bank.call("scale_rows", a, to, count, factor)),
    softcap: ({ x, out, cap }) =>
      columnwise(state, [x], out, (bank, [a], to, count) => bank.call("softcap_rows", a, to, count, cap)),
  };
}

function embed({ slots, banks, weights, batch }: MemberState, op: OpOf<"embed">): void {
  const tensor = weights.table(op.weight);
  const bank = banks.first;
  const width = slots.width(op.out);
  const { elements, bytes } = unitOf(tensor.type);
  const rowBytes = (width / elements) * bytes;
  const grouped = !isDense(tensor) && TYPES[tensor.type].family === "group";
  const [src, dst] = bank.scratch(rowBytes, 4 * width);
  const indices = batch[op.index];
  for (let row = 0; row < indices.length; row++) {
    const index = indices[row];
    if (grouped) decodeGroupedRow(tensor, index, bank.floats.subarray(dst / 4, dst / 4 + width));
    else {
      bank.bytes.set(tensor.data.subarray(index * rowBytes, (index + 1) * rowBytes), src);
      decodeRun(bank, tensor, src, dst, width);
    }
    if (op.scale !== undefined) bank.call("scale_rows", dst, dst, width, op.scale);
    slots.store(op.out, row, 1, bank, dst, width);
  }
}

/** Norms of heads are done in the columns that are written; a norm of whole rows needs all of them. */
function norm(
  state: MemberState,
  { x: slot, out }: { readonly x: Slot; readonly out: Slot },
  runWidth: number,
  kernel: (bank: MemberState["banks"]["first"], x: number, out: number, runs: number) => void,
): void {
  const { slots, banks } = state;
  const width = slots.width(slot);
  const columns: Columns = slot === out || runWidth < width ? slots.columns(out) : [0, width];
  const count = columns[1] - columns[0];
  if (count === 0) return;
  inRuns(state, slot, 2 * count, (row, rows) => {
    const bank = banks.first;
    const [stage, stageOut] = bank.scratch(4 * count * rows, 4 * count * rows);
    const direct = count === width ? slots.address(out, row) : null;
    const x = bring(state, slot, columns, row, rows, stage);
    kernel(bank, x, direct ?? stageOut, (count * rows) / runWidth);
    if (direct === null) slots.store(out, row, rows, bank, stageOut, count);
  });
}

function linear(state: MemberState, op: OpOf<"linear">): void {
  const { program, batch, slots, weights, banks } = state;
  const rows = rowsOf(program, batch, op.x);
  if (state.observation) observeRows(state, state.observation, op.weight, op.x, 0, rows);
  const bias = op.bias === undefined ? undefined : weights.vector(op.bias).values;
  const x: Columns = [0, slots.width(op.x)];
  const width = slots.width(op.out);
  if (state.source?.slot !== op.x) state.source = { slot: op.x };
  multiplyRows(
    weights.rows(op.weight),
    {
      count: rows,
      key: state.source,
      bring(row, count, bank, stage) {
        const address = bank === banks.first ? slots.address(op.x, row) : null;
        if (address === null) slots.load(op.x, x, row, count, bank, stage);
        return address ?? stage;
      },
    },
    {
      placeOf(row, first, bank) {
        const address = bias || bank !== banks.first ? null : slots.address(op.out, row);
        return address === null ? null : { address: address + 4 * first, stride: width };
      },
      store(row, first, outputs) {
        const { values, start } = slots.view(op.out);
        const at = start + row * width + first;
        if (!bias) values.set(outputs, at);
        else for (let o = 0; o < outputs.length; o++) values[at + o] = outputs[o] + bias[first + o];
      },
    },
  );
}

function rope(state: MemberState, op: OpOf<"rope">): void {
  const { slots, banks, batch, callLengths, angles } = state;
  const bank = banks.first;
  const columns = slots.columns(op.x);
  const width = columns[1] - columns[0];
  if (width === 0) return;
  const heads = width / op.headWidth;
  const kernel = op.interleaved ? "rotate_neighbours" : "rotate_heads";
  const [stage] = bank.scratch(4 * width);
  for (let row = 0; row < batch.positions.length; row++) {
    const isLong = op.long && callLengths[row] > op.long.beyond;
    const { angles: own, cosines, sines } = angles[isLong ? op.long!.table : op.table];
    const pairs = own.table.rotaryWidth / 2;
    const x = bring(state, op.x, columns, row, 1, stage);
    const angle = 4 * batch.positions[row] * pairs;
    bank.call(kernel, x + 4 * op.start, heads, 4 * op.headWidth, pairs, cosines + angle, sines + angle);
    if (x === stage) slots.store(op.x, row, 1, bank, stage, width);
  }
}

/** Runs go to the columns that this member writes. */
function copy({ program, batch, slots }: MemberState, op: OpOf<"copy">): void {
  const x = slots.view(op.x);
  const out = slots.view(op.out);
  const [xWidth, outWidth] = [slots.width(op.x), slots.width(op.out)];
  const [first, last] = slots.columns(op.out);
  for (let n = 0; n < op.count; n++) {
    const start = op.outStart + n * op.outStride;
    const from = Math.max(first, start);
    const to = Math.min(last, start + op.width);
    if (from >= to) continue;
    const source = x.start + op.xStart + n * op.xStride + from - start;
    for (let row = 0; row < rowsOf(program, batch, op.x); row++) {
      const at = source + row * xWidth;
      out.values.set(x.values.subarray(at, at + to - from), out.start + row * outWidth + from);
    }
  }
}

function select({ slots, banks, batch }: MemberState, op: OpOf<"select">): void {
  const bank = banks.first;
  const width = slots.width(op.x);
  const [stage] = bank.scratch(4 * width);
  for (let i = 0; i < batch.outputs.length; i++) {
    slots.load(op.x, [0, width], batch.outputs[i], 1, bank, stage);
    slots.store(op.out, i, 1, bank, stage, width);
  }
}
