/** Mixture of experts on the reference backend: who is chosen, their products, and the mix of their results. */

import { type Kernels, rowsOf } from "./interpreter.js";
import { addSquares } from "./observe.js";
import { multiplyRows } from "./reference-linear.js";
import { matrixOf, type State } from "./reference-state.js";
import { routeRow, rowsByExpert } from "./route.js";

const f32 = Math.fround;

export function expertKernels(state: State): Pick<Kernels, "route" | "expertLinear" | "combine"> {
  const { program, weights, slots } = state;
  return {
    route(op) {
      const { width: experts, values } = matrixOf(state, op.x);
      const { width: count } = program.slots[op.chosen];
      const { router } = op;
      const bias =
        router.kind === "scores" && router.bias !== undefined ? weights.get(router.bias).vector : undefined;
      for (let row = 0; row < rowsOf(program, state.batch, op.x); row++) {
        const { chosen, weights } = routeRow(
          router,
          values.subarray(row * experts, (row + 1) * experts),
          bias,
          count,
        );
        slots[op.chosen].set(chosen, row * count);
        slots[op.weights].set(weights, row * count);
      }
    },
    expertLinear(op) {
      const x = matrixOf(state, op.x);
      const out = matrixOf(state, op.out);
      const perRow = rowsOf(program, state.batch, op.out) / rowsOf(program, state.batch, op.x);
      const outRows = rowsOf(program, state.batch, op.out);
      for (const [expert, rows] of rowsByExpert(slots[op.chosen].subarray(0, outRows))) {
        const taken = { values: new Float32Array(rows.length * x.width), width: x.width };
        const results = { values: new Float32Array(rows.length * out.width), width: out.width };
        rows.forEach((row, i) => {
          const from = Math.floor(row / perRow) * x.width;
          taken.values.set(x.values.subarray(from, from + x.width), i * x.width);
        });
        const weight = op.experts[expert];
        if (state.observation) addSquares(state.observation, weight, { ...taken, start: 0 }, rows.length);
        multiplyRows(weights.get(weight).tensor, taken, rows.length, results);
        rows.forEach((row, i) => {
          out.values.set(results.values.subarray(i * out.width, (i + 1) * out.width), row * out.width);
        });
      }
    },
    combine(op) {
      const x = slots[op.x];
      const { values: out, width } = matrixOf(state, op.out);
      const { values: factors, width: count } = matrixOf(state, op.weights);
      for (let row = 0; row < rowsOf(program, state.batch, op.out); row++) {
        for (let i = 0; i < width; i++) {
          let sum = 0;
          for (let j = 0; j < count; j++) {
            sum = f32(sum + f32(factors[row * count + j] * x[(row * count + j) * width + i]));
          }
          out[row * width + i] = sum;
        }
      }
    },
  };
}
