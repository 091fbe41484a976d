/** A program with its weights, slots and cache in plain arrays, and the kernels that run on them. */

import { IsqError } from "../errors.js";
import { rowElements } from "../quants/tensor.js";
import { type Angles, createAngles, growAngles } from "./angles.js";
import type { Session, SessionOptions, Tensor } from "./backend.js";
import { checkBatch, type Kernels, rowsOf, walk } from "./interpreter.js";
import { type Batch, CACHE_BLOCK, type Program, type Slot, type WeightIndex } from "./program.js";
import { attendHead, type CacheLayer, storeRow } from "./reference-attention.js";
import { addRange, gateSilu, normRun, rotateHead } from "./reference-kernels.js";
import {
  addBias,
  dotPartner,
  type Matrix,
  multiplyBlocks,
  multiplyDecoded,
  openRows,
  prepareRows,
} from "./reference-linear.js";
import { checkAllPlaced, checkCachePositions, checkPlacement } from "./session-checks.js";

const f32 = Math.fround;

/** Everything a step reads and writes. */
interface State {
  readonly program: Program;
  readonly weights: (Tensor | undefined)[];
  /** Norms and biases, decoded when they are placed. */
  readonly vectors: (Float32Array | undefined)[];
  readonly slots: Float32Array[];
  readonly angles: readonly Angles[];
  readonly cache: readonly CacheLayer[];
  /** Quantized activation rows of the linear that runs. */
  readonly prepared: Uint8Array[];
  batch: Batch;
}

const NO_ROWS = new Int32Array(0);
const NO_BATCH: Batch = {
  tokens: NO_ROWS,
  positions: NO_ROWS,
  sequences: NO_ROWS,
  blockTables: [],
  outputs: NO_ROWS,
};

/** Opens a session. Cache blocks and rope angles are made when first used, so room that is not used costs nothing. */
export function openSession(program: Program, options: SessionOptions): Session {
  const blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
  const state: State = {
    program,
    weights: new Array(program.weights.length).fill(undefined),
    vectors: new Array(program.weights.length).fill(undefined),
    slots: program.slots.map(() => new Float32Array(0)),
    angles: program.ropes.map(createAngles),
    cache: Array.from({ length: program.cacheLayers }, () => ({
      width: program.cacheWidth,
      keys: [],
      values: [],
    })),
    prepared: [],
    batch: NO_BATCH,
  };
  const kernels = createKernels(state);
  let open = true;
  const checkOpen = () => {
    if (!open) throw new IsqError("backend/disposed", "the session was disposed");
  };
  return {
    place(weight, tensor) {
      checkOpen();
      placeWeight(state, weight, tensor);
    },
    run(batch) {
      checkOpen();
      checkAllPlaced(program, (weight) => state.weights[weight] !== undefined);
      checkBatch(program, batch, blocks);
      makeRoom(state, batch);
      walk(program, batch, kernels);
      return state.slots[program.logits].slice(0, batch.outputs.length * program.vocabulary);
    },
    dispose() {
      open = false;
      for (const list of [state.weights, state.vectors, state.slots, state.prepared]) list.length = 0;
      for (const layer of state.cache) layer.keys.length = layer.values.length = 0;
    },
  };
}

function placeWeight(state: State, index: WeightIndex, tensor: Tensor): void {
  checkPlacement(state.program, index, tensor);
  const { role } = state.program.weights[index];
  state.weights[index] = tensor;
  if (role === "norm" || role === "bias") state.vectors[index] = openVector(tensor);
}

/** A one-row tensor, decoded. */
function openVector(tensor: Tensor): Float32Array {
  const reader = openRows(tensor);
  const start = reader.seek(0);
  return reader.values.slice(start, start + rowElements(tensor.shape));
}

/** Grows slots and angles to what the batch needs. */
function makeRoom(state: State, batch: Batch): void {
  const { program, slots } = state;
  state.batch = batch;
  for (let slot = 0; slot < slots.length; slot++) {
    const elements = rowsOf(program, batch, slot) * program.slots[slot].width;
    if (slots[slot].length < elements) slots[slot] = new Float32Array(elements);
  }
  const highest = batch.positions.reduce((most, position) => Math.max(most, position), 0);
  for (const angles of state.angles) growAngles(angles, highest + 1);
}

function createKernels(state: State): Kernels {
  return { ...weightKernels(state), ...attentionKernels(state), ...rowKernels(state) };
}

/** A slot's array and row width. Arrays are replaced when they grow, so this is asked for in every step. */
function matrixOf({ slots, program }: State, slot: Slot): Matrix {
  return { values: slots[slot], width: program.slots[slot].width };
}

function weightKernels(state: State): Pick<Kernels, "embed" | "rmsNorm" | "prepare" | "linear"> {
  const { program, weights, vectors, slots, prepared } = state;
  return {
    embed(op, first, last) {
      const reader = openRows(weights[op.weight]!);
      const { values, width } = matrixOf(state, op.out);
      const scale = f32(op.scale ?? 1);
      for (let row = first; row < last; row++) {
        const start = reader.seek(state.batch.tokens[row]);
        for (let i = 0; i < width; i++) values[row * width + i] = f32(reader.values[start + i] * scale);
      }
    },
    rmsNorm(op, first, last) {
      const epsilon = f32(op.epsilon);
      for (let run = first; run < last; run++) {
        normRun(slots[op.x], vectors[op.weight]!, slots[op.out], run * op.width, op.width, epsilon);
      }
    },
    prepare(op, first, last) {
      const partner = dotPartner(weights[op.weight]!);
      if (partner !== null) prepareRows(partner, matrixOf(state, op.x), prepared, first, last);
    },
    linear(op, first, last) {
      const weight = weights[op.weight]!;
      const rows = rowsOf(program, state.batch, op.x);
      const out = matrixOf(state, op.out);
      if (dotPartner(weight) === null) {
        multiplyDecoded(weight, matrixOf(state, op.x), rows, out, first, last);
      } else {
        multiplyBlocks(weight, prepared, rows, out, first, last);
      }
      if (op.bias !== undefined) addBias(vectors[op.bias]!, rows, out, first, last);
    },
  };
}

function attentionKernels(state: State): Pick<Kernels, "rope" | "store" | "attend"> {
  const { slots, angles, cache } = state;
  return {
    rope(op, first, last) {
      const { values, width } = matrixOf(state, op.x);
      const heads = width / op.headWidth;
      const { cosines, sines, table } = angles[op.table];
      const pairs = table.rotaryWidth / 2;
      for (let unit = first; unit < last; unit++) {
        const angle = state.batch.positions[Math.floor(unit / heads)] * pairs;
        rotateHead(values, unit * op.headWidth, pairs, cosines, sines, angle);
      }
    },
    store(op, first, last) {
      for (let row = first; row < last; row++) {
        storeRow(cache[op.layer], state.batch, row, slots[op.k], slots[op.v]);
      }
    },
    attend(op, first, last) {
      for (let unit = first; unit < last; unit++) {
        attendHead(op, cache[op.layer], state.batch, unit, slots[op.q], slots[op.out]);
      }
    },
  };
}

function rowKernels(state: State): Pick<Kernels, "gate" | "add" | "select"> {
  const { slots } = state;
  return {
    gate: (op, first, last) => gateSilu(slots[op.gate], slots[op.up], slots[op.out], first, last),
    add: (op, first, last) => addRange(slots[op.a], slots[op.b], slots[op.out], first, last),
    select(op, first, last) {
      const { values, width } = matrixOf(state, op.x);
      for (let i = first; i < last; i++) {
        const start = state.batch.outputs[i] * width;
        slots[op.out].set(values.subarray(start, start + width), i * width);
      }
    },
  };
}
