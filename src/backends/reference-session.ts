/** A program with its weights, slots and cache in plain arrays. */

import { IsqError } from "../errors.js";
import { rowElements } from "../quants/tensor.js";
import { createAngles, growAngles } from "./angles.js";
import type { Session, SessionOptions, Tensor } from "./backend.js";
import { callLengthsOf, checkBatch, NO_BATCH, rowsOf, runOp } from "./interpreter.js";
import { createObservation } from "./observe.js";
import { createPlacements } from "./placements.js";
import { type Batch, CACHE_BLOCK, type Program, type WeightIndex } from "./program.js";
import { openRows } from "./reference-linear.js";
import { createKernels } from "./reference-ops.js";
import type { State } from "./reference-state.js";
import { checkCachePositions, checkPlacement, checkWeightIndex } from "./session-checks.js";

/** Opens a session. Cache blocks and rope angles are made when first used, so room that is not used costs nothing. */
export function openSession(program: Program, options: SessionOptions, ended = () => {}): Session {
  const blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
  const state: State = {
    program,
    weights: createPlacements(program),
    slots: program.slots.map(() => new Float32Array(0)),
    angles: program.ropes.map(createAngles),
    cache: Array.from({ length: program.cacheLayers }, () => ({
      keyWidth: program.keyWidth,
      valueWidth: program.valueWidth,
      keys: [],
      values: [],
    })),
    batch: NO_BATCH,
    callLengths: NO_BATCH.tokens,
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
      for (const op of program.ops) runOp(kernels, op);
      return state.slots[program.logits].slice(0, batch.outputs.length * program.vocabulary);
    },
    dispose() {
      open = false;
      state.weights.clear();
      state.slots.length = 0;
      for (const layer of state.cache) layer.keys.length = layer.values.length = 0;
      ended();
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
  state.callLengths = callLengthsOf(batch);
  for (let slot = 0; slot < slots.length; slot++) {
    const elements = rowsOf(program, batch, slot) * program.slots[slot].width;
    if (slots[slot].length < elements) slots[slot] = new Float32Array(elements);
  }
  const highest = batch.positions.reduce((most, position) => Math.max(most, position), 0);
  for (const angles of state.angles) growAngles(angles, highest + 1);
}
