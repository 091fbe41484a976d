/** Mixture of experts in a member: routing is done by everybody, products and their mix in the own columns. */

import { type Kernels, type OpOf, rowsOf } from "./interpreter.js";
import { routeRow, rowsByExpert } from "./route.js";
import type { Columns } from "./schedule.js";
import { multiplyRows } from "./wasm-product.js";
import { bring, type MemberState, observeRows } from "./wasm-state.js";

export function expertKernels(state: MemberState): Pick<Kernels, "route" | "expertLinear" | "combine"> {
  return {
    route: (op) => route(state, op),
    expertLinear: (op) => multiplyExperts(state, op),
    combine: (op) => combine(state, op),
  };
}

function route({ program, batch, slots, weights: placed }: MemberState, op: OpOf<"route">): void {
  const { router } = op;
  const [experts, count] = [slots.width(op.x), slots.width(op.chosen)];
  const bias =
    router.kind === "scores" && router.bias !== undefined ? placed.vector(router.bias).values : undefined;
  const [x, chosen, weights] = [op.x, op.chosen, op.weights].map((slot) => slots.view(slot));
  for (let row = 0; row < rowsOf(program, batch, op.x); row++) {
    const at = x.start + row * experts;
    const routed = routeRow(router, x.values.subarray(at, at + experts), bias, count);
    chosen.values.set(routed.chosen, chosen.start + row * count);
    weights.values.set(routed.weights, weights.start + row * count);
  }
}

function multiplyExperts(state: MemberState, op: OpOf<"expertLinear">): void {
  const { program, batch, slots, weights, observation } = state;
  const outRows = rowsOf(program, batch, op.out);
  const perRow = outRows / rowsOf(program, batch, op.x);
  const x: Columns = [0, slots.width(op.x)];
  const rowBytes = 4 * slots.width(op.x);
  const width = slots.width(op.out);
  const { values, start } = slots.view(op.chosen);
  for (const [expert, own] of rowsByExpert(values.subarray(start, start + outRows))) {
    const weight = op.experts[expert];
    const from = own.map((row) => Math.floor(row / perRow));
    if (observation) for (const row of from) observeRows(state, observation, weight, op.x, row, 1);
    multiplyRows(
      weights.rows(weight),
      {
        count: own.length,
        bring(row, count, bank, stage) {
          for (let i = 0; i < count; i++) slots.load(op.x, x, from[row + i], 1, bank, stage + i * rowBytes);
          return stage;
        },
      },
      {
        store(row, first, outputs) {
          const out = slots.view(op.out);
          out.values.set(outputs, out.start + own[row] * width + first);
        },
      },
    );
  }
}

function combine(state: MemberState, op: OpOf<"combine">): void {
  const { program, batch, slots, banks } = state;
  const bank = banks.first;
  const columns = slots.columns(op.out);
  const width = columns[1] - columns[0];
  if (width === 0) return;
  const count = slots.width(op.weights);
  const [stage, weights, out] = bank.scratch(4 * count * width, 4 * count, 4 * width);
  for (let row = 0; row < rowsOf(program, batch, op.out); row++) {
    const x = bring(state, op.x, columns, row * count, count, stage);
    slots.load(op.weights, [0, count], row, 1, bank, weights);
    bank.call("combine_rows", x, weights, out, count, width);
    slots.store(op.out, row, 1, bank, out, width);
  }
}
