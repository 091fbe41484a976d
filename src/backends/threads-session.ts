/** A program that a pool runs: every worker has its rows of the weights and its heads of the cache. */

import { IsqError } from "../errors.js";
import { TYPES } from "../quants/table.js";
import type { Session, SessionOptions } from "./backend.js";
import { checkBatch, rowsOf } from "./interpreter.js";
import { type Batch, CACHE_BLOCK, type Program } from "./program.js";
import { makeSchedule } from "./schedule.js";
import { checkAllPlaced, checkCachePositions, checkPlacement, checkWeightShape } from "./session-checks.js";
import { sharedFloats, sharedWords, shareTensor } from "./shared.js";
import { type Workshop, withEncodedFile } from "./threads-encode.js";
import { refusalOf } from "./wasm-encode.js";
import { usesOf } from "./wasm-member.js";

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
  const placed = new Set<number>();
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

  return {
    async place(weight, tensor) {
      checkOpen();
      checkPlacement(program, weight, tensor);
      await pool.together({ kind: "place", session, weight, tensor: shareTensor(tensor) });
      placed.add(weight);
    },
    canPlaceFile: (weight) => uses[weight].rowsTo !== null && !uses[weight].embedding && !uses[weight].vector,
    async placeFile(weight, file, encode, signal) {
      checkOpen();
      checkWeightShape(program, weight, file.shape);
      // Groups and whole tensors have side values that all rows share: they are encoded first and dealt out then.
      if (encode && TYPES[encode.type].family !== "block") {
        const options = { ...encode, shape: file.shape, ...(signal && { signal }) };
        return withEncodedFile(workshop, encode.type, file, options, async (tensor) => {
          await pool.together({ kind: "place", session, weight, tensor }, signal);
          placed.add(weight);
          return tensor.reencodedBlocks ?? 0;
        });
      }
      const bad = sharedWords(1);
      const results = await pool.together({ kind: "placeFile", session, weight, file, encode, bad }, signal);
      const refusal = refusalOf(results, encode?.name);
      if (refusal) throw refusal;
      placed.add(weight);
      return results.reduce((sum, result) => sum + (result?.reencodedBlocks ?? 0), 0);
    },
    async run(batch, signal) {
      checkOpen();
      checkAllPlaced(program, (weight) => placed.has(weight));
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
