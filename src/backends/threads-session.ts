/** A program that a pool runs: every worker has its rows of the weights and its heads of the cache. */

import { IsqError } from "../errors.js";
import { TYPES } from "../quants/table.js";
import type { Session, SessionOptions } from "./backend.js";
import { checkBatch, rowsOf } from "./interpreter.js";
import { createObservation } from "./observe.js";
import { createPlacements } from "./placements.js";
import { type Batch, CACHE_BLOCK, type Program } from "./program.js";
import { makeSchedule } from "./schedule.js";
import { checkCachePositions, checkPlacement, checkWeightIndex, checkWeightShape } from "./session-checks.js";
import { compact, sharedBytes, sharedDoubles, sharedFloats, sharedWords, shareTensor } from "./shared.js";
import { type Workshop, withEncodedFile } from "./threads-encode.js";
import { refusalOf } from "./wasm-encode.js";
import { formOf, type ReadTarget, readTensor, type TensorForm } from "./wasm-read.js";
import { type HoldStep, usesOf } from "./wasm-weights.js";

export interface ThreadSessionOptions extends SessionOptions {
  readonly memoryByteLength: number;
  readonly workerByteLength: number;
}

let opened = 0;

export async function openThreadSession(
  workshop: Workshop,
  program: Program,
  options: ThreadSessionOptions,
): Promise<Session> {
  const { pool } = workshop;
  const blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
  const { memoryByteLength, workerByteLength } = options;
  const session = opened++;
  const schedule = makeSchedule(program, pool.members);
  const isShared = (slot: number) => schedule.shared[slot] || slot === program.logits;
  const arrays: (Float32Array | null)[] = program.slots.map(() => null);
  const forms = createPlacements<TensorForm>(program);
  const uses = usesOf(program);
  /** Whether the workers have the arrays as they are now. */
  let delivered = false;
  let open = true;
  const checkOpen = () => {
    if (!open || !pool.isOpen) throw new IsqError("backend/disposed", "the session was disposed");
  };
  await pool.together({ kind: "open", session, program, memoryByteLength, workerByteLength });

  /** Makes the shared slots large enough; true when one was replaced. */
  const growArrays = (batch: Batch): boolean => {
    let grown = false;
    for (let slot = 0; slot < arrays.length; slot++) {
      if (!isShared(slot)) continue;
      const elements = rowsOf(program, batch, slot) * program.slots[slot].width;
      if ((arrays[slot]?.length ?? -1) >= elements) continue;
      arrays[slot] = sharedFloats(elements);
      grown = true;
    }
    return grown;
  };

  const turn = async (step: HoldStep) => {
    checkOpen();
    await pool.together({ kind: "turn", session, step });
    forms[step]();
  };

  return {
    async place(weight, tensor) {
      checkOpen();
      checkPlacement(program, weight, tensor);
      await pool.together({ kind: "place", session, weight, tensor: shareTensor(tensor) });
      forms.put(weight, formOf(tensor, uses[weight]));
    },
    async read(weight) {
      checkOpen();
      checkWeightIndex(program, weight);
      const fill = (target: ReadTarget) => pool.together({ kind: "readBack", session, weight, target });
      return readTensor(forms.get(weight), uses[weight], fill, { bytes: sharedBytes, floats: sharedFloats });
    },
    hold: () => turn("hold"),
    commit: () => turn("commit"),
    discard: () => turn("discard"),
    async observe(on) {
      checkOpen();
      const observation = on ? createObservation(program, sharedDoubles) : null;
      await pool.together({ kind: "observe", session, observation });
      return observation;
    },
    canPlaceFile: (weight) => uses[weight].rowsTo !== null && !uses[weight].embedding && !uses[weight].vector,
    async placeFile(weight, file, encoding, signal) {
      checkOpen();
      const { importance } = encoding ?? {};
      const encode = encoding && { ...encoding, ...(importance && { importance: compact(importance) }) };
      checkWeightShape(program, weight, file.shape);
      // Groups and whole tensors have side values that all rows share: they are encoded first and dealt out then.
      if (encode && TYPES[encode.type].family !== "block") {
        const options = { ...encode, shape: file.shape, ...(signal && { signal }) };
        return withEncodedFile(workshop, encode.type, file, options, async (tensor) => {
          await pool.together({ kind: "place", session, weight, tensor }, signal);
          forms.put(weight, formOf(tensor, uses[weight]));
          return tensor.reencodedBlocks ?? 0;
        });
      }
      const bad = sharedWords(1);
      const results = await pool.together({ kind: "placeFile", session, weight, file, encode, bad }, signal);
      const refusal = refusalOf(results, encode?.name);
      if (refusal) throw refusal;
      const { shape } = file;
      forms.put(
        weight,
        encode ? { type: encode.type, algorithm: encode.algorithm, shape } : { type: file.type, shape },
      );
      return results.reduce((sum, result) => sum + (result?.reencodedBlocks ?? 0), 0);
    },
    async run(batch, signal) {
      checkOpen();
      forms.checkAll();
      checkBatch(program, batch, blocks);
      if (growArrays(batch)) delivered = false;
      await pool.together({ kind: "run", session, batch, arrays: delivered ? null : [...arrays] }, signal);
      delivered = true;
      return arrays[program.logits]!.slice(0, batch.outputs.length * program.vocabulary);
    },
    async dispose() {
      if (!open) return;
      open = false;
      if (pool.isOpen) await pool.together({ kind: "close", session });
    },
  };
}
