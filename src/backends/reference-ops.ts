/** The operations of the reference backend, as ops.ts states them. */

import { type Kernels, rowsOf } from "./interpreter.js";
import { addSquares } from "./observe.js";
import type { Slot } from "./program.js";
import { attendHead, storeRow } from "./reference-attention.js";
import { expertKernels } from "./reference-experts.js";
import { ACTIVATIONS, capRange, centerRun, normRun, rotatePairs } from "./reference-kernels.js";
import { addBias, multiplyRows, openRows } from "./reference-linear.js";
import { matrixOf, type State } from "./reference-state.js";

const f32 = Math.fround;

export function createKernels(state: State): Kernels {
  return {
    ...weightKernels(state),
    ...attentionKernels(state),
    ...elementKernels(state),
    ...moveKernels(state),
    ...expertKernels(state),
  };
}

function weightKernels(state: State): Pick<Kernels, "embed" | "rmsNorm" | "layerNorm" | "linear"> {
  const { program, weights, slots } = state;
  const rows = (slot: Slot) => rowsOf(program, state.batch, slot);
  return {
    embed(op) {
      const reader = openRows(weights.get(op.weight).tensor);
      const { values, width } = matrixOf(state, op.out);
      const scale = f32(op.scale ?? 1);
      const index = state.batch[op.index];
      for (let row = 0; row < index.length; row++) {
        const start = reader.seek(index[row]);
        for (let i = 0; i < width; i++) values[row * width + i] = f32(reader.values[start + i] * scale);
      }
    },
    rmsNorm(op) {
      const { width } = op;
      const epsilon = f32(op.epsilon);
      const own = weights.get(op.weight).vector;
      const offset = op.offset === undefined ? null : f32(op.offset);
      const weight = offset === null ? own : own.map((w) => f32(offset + w));
      const elements = rows(op.x) * program.slots[op.x].width;
      for (let start = 0; start < elements; start += width) {
        normRun(slots[op.x], weight, slots[op.out], start, width, epsilon);
      }
    },
    layerNorm(op) {
      const { width } = program.slots[op.x];
      const [weight, bias] = [op.weight, op.bias].map((index) => weights.get(index).vector);
      for (let row = 0; row < rows(op.x); row++) {
        centerRun(slots[op.x], weight, bias, slots[op.out], row * width, f32(op.epsilon));
      }
    },
    linear(op) {
      const [x, out] = [matrixOf(state, op.x), matrixOf(state, op.out)];
      if (state.observation) addSquares(state.observation, op.weight, { ...x, start: 0 }, rows(op.x));
      multiplyRows(weights.get(op.weight).tensor, x, rows(op.x), out);
      if (op.bias !== undefined) addBias(weights.get(op.bias).vector, rows(op.x), out);
    },
  };
}

function attentionKernels(state: State): Pick<Kernels, "rope" | "attention"> {
  const { slots, angles, cache } = state;
  return {
    rope({ x, headWidth, start, interleaved, table, long }) {
      const { values, width } = matrixOf(state, x);
      const { positions } = state.batch;
      for (let row = 0; row < positions.length; row++) {
        const isLong = long && state.callLengths[row] > long.beyond;
        const { cosines, sines, table: rope } = angles[isLong ? long.table : table];
        const pairs = rope.rotaryWidth / 2;
        const [step, distance] = interleaved ? [2, 1] : [1, pairs];
        for (let head = row * width; head < (row + 1) * width; head += headWidth) {
          const angle = positions[row] * pairs;
          rotatePairs(values, head + start, step, distance, pairs, cosines, sines, angle);
        }
      }
    },
    attention(op) {
      const { batch } = state;
      const layer = cache[op.layer];
      const rows = batch.tokens.length;
      for (let row = 0; row < rows; row++) storeRow(layer, batch, row, slots[op.k], slots[op.v]);
      for (let row = 0; row < rows; row++) {
        for (let head = 0; head < op.heads; head++) {
          attendHead(op, layer, batch, row, head, slots[op.q], slots[op.out]);
        }
      }
    },
  };
}

function elementKernels(state: State): Pick<Kernels, "gate" | "activate" | "add" | "scale" | "softcap"> {
  const { program, slots } = state;
  const elements = (slot: Slot) => rowsOf(program, state.batch, slot) * program.slots[slot].width;
  /** out[i] = compute(i) for all elements. */
  const fill = (slot: Slot, compute: (i: number) => number) => {
    const out = slots[slot];
    for (let i = 0, count = elements(slot); i < count; i++) out[i] = compute(i);
  };
  return {
    gate(op) {
      const activate = ACTIVATIONS[op.activation];
      const [gate, up] = [slots[op.gate], slots[op.up]];
      fill(op.out, (i) => f32(activate(gate[i]) * up[i]));
    },
    activate(op) {
      const activate = ACTIVATIONS[op.activation];
      const x = slots[op.x];
      fill(op.out, (i) => activate(x[i]));
    },
    add(op) {
      const [a, b] = [slots[op.a], slots[op.b]];
      if (op.scale === undefined) fill(op.out, (i) => f32(a[i] + b[i]));
      else {
        const scale = f32(op.scale);
        fill(op.out, (i) => f32(a[i] + f32(b[i] * scale)));
      }
    },
    scale(op) {
      const factor = f32(op.factor);
      const x = slots[op.x];
      fill(op.out, (i) => f32(x[i] * factor));
    },
    softcap: (op) => capRange(slots[op.x], slots[op.out], 0, elements(op.out), op.cap),
  };
}

function moveKernels(state: State): Pick<Kernels, "copy" | "select"> {
  return {
    copy(op) {
      const x = matrixOf(state, op.x);
      const out = matrixOf(state, op.out);
      for (let row = 0; row < rowsOf(state.program, state.batch, op.x); row++) {
        for (let n = 0; n < op.count; n++) {
          const from = row * x.width + op.xStart + n * op.xStride;
          const run = x.values.subarray(from, from + op.width);
          out.values.set(run, row * out.width + op.outStart + n * op.outStride);
        }
      }
    },
    select(op) {
      const { values, width } = matrixOf(state, op.x);
      const { outputs } = state.batch;
      for (let i = 0; i < outputs.length; i++) {
        const start = outputs[i] * width;
        state.slots[op.out].set(values.subarray(start, start + width), i * width);
      }
    },
  };
}
