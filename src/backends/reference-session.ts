/** A program with its weights, slots and cache in plain arrays, and the kernels that run on them. */

import { IsqError } from "../errors.js";
import { rowElements } from "../quants/tensor.js";
import { type Angles, createAngles, growAngles } from "./angles.js";
import type { Session, SessionOptions, Tensor } from "./backend.js";
import { checkBatch, type Kernels, rowsOf, walk } from "./interpreter.js";
import { addSquares, createObservation, type Observation } from "./observe.js";
import { createPlacements, type Placements } from "./placements.js";
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
import { checkCachePositions, checkPlacement, checkWeightIndex } from "./session-checks.js";

const f32 = Math.fround;

/** A weight; norms and biases are decoded when they are placed. */
interface PlacedWeight {
  readonly tensor: Tensor;
  readonly vector: Float32Array;
}

/** Everything a step reads and writes. */
interface State {
  readonly program: Program;
  readonly weights: Placements<PlacedWeight>;
  readonly slots: Float32Array[];
  readonly angles: readonly Angles[];
  readonly cache: readonly CacheLayer[];
  /** Quantized activation rows of the linear that runs. */
  readonly prepared: Uint8Array[];
  batch: Batch;
  /** What goes into linears, while it is observed. */
  observation: Observation | null;
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
    weights: createPlacements(program),
    slots: program.slots.map(() => new Float32Array(0)),
    angles: program.ropes.map(createAngles),
    cache: Array.from({ length: program.cacheLayers }, () => ({
      width: program.cacheWidth,
      keys: [],
      values: [],
    })),
    prepared: [],
    batch: NO_BATCH,
    observation: null,
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
    read(weight) {
      checkOpen();
      return readWeight(state, weight);
    },
    hold() {
      checkOpen();
      state.weights.hold();
    },
    commit() {
      checkOpen();
      state.weights.commit();
    },
    discard() {
      checkOpen();
      state.weights.discard();
    },
    observe(on) {
      checkOpen();
      state.observation = on ? createObservation(program, (length) => new Float64Array(length)) : null;
      return state.observation;
    },
    run(batch) {
      checkOpen();
      state.weights.checkAll();
      checkBatch(program, batch, blocks);
      makeRoom(state, batch);
      walk(program, batch, kernels);
      return state.slots[program.logits].slice(0, batch.outputs.length * program.vocabulary);
    },
    dispose() {
      open = false;
      state.weights.clear();
      for (const list of [state.slots, state.prepared]) list.length = 0;
      for (const layer of state.cache) layer.keys.length = layer.values.length = 0;
    },
  };
}

function placeWeight(state: State, index: WeightIndex, tensor: Tensor): void {
  checkPlacement(state.program, index, tensor);
  const vector = isVector(state.program, index) ? openVector(tensor) : new Float32Array(0);
  state.weights.put(index, { tensor, vector });
}

function readWeight({ program, weights }: State, index: WeightIndex): Tensor {
  checkWeightIndex(program, index);
  const { tensor, vector } = weights.get(index);
  if (!isVector(program, index)) return tensor;
  return { type: "F32", shape: tensor.shape, data: new Uint8Array(vector.slice().buffer) };
}

function isVector({ weights }: Program, index: WeightIndex): boolean {
  return weights[index].role === "norm" || weights[index].role === "bias";
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
  const { program, weights, slots, prepared } = state;
  return {
    embed(op, first, last) {
      const reader = openRows(weights.get(op.weight).tensor);
      const { values, width } = matrixOf(state, op.out);
      const scale = f32(op.scale ?? 1);
      for (let row = first; row < last; row++) {
        const start = reader.seek(state.batch.tokens[row]);
        for (let i = 0; i < width; i++) values[row * width + i] = f32(reader.values[start + i] * scale);
      }
    },
    rmsNorm(op, first, last) {
      const epsilon = f32(op.epsilon);
      const { vector } = weights.get(op.weight);
      for (let run = first; run < last; run++) {
        normRun(slots[op.x], vector, slots[op.out], run * op.width, op.width, epsilon);
      }
    },
    prepare(op, first, last) {
      const x = matrixOf(state, op.x);
      const { observation } = state;
      if (observation) {
        const from = { ...x, start: first * x.width };
        addSquares(observation, op.weight, from, last - first);
      }
      const partner = dotPartner(weights.get(op.weight).tensor);
      if (partner !== null) prepareRows(partner, x, prepared, first, last);
    },
    linear(op, first, last) {
      const weight = weights.get(op.weight).tensor;
      const rows = rowsOf(program, state.batch, op.x);
      const out = matrixOf(state, op.out);
      if (dotPartner(weight) === null) {
        multiplyDecoded(weight, matrixOf(state, op.x), rows, out, first, last);
      } else {
        multiplyBlocks(weight, prepared, rows, out, first, last);
      }
      if (op.bias !== undefined) addBias(weights.get(op.bias).vector, rows, out, first, last);
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
