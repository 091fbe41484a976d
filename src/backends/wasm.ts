/** The WebAssembly backend (`isq/wasm`): SIMD kernels on the calling thread, the reference's bytes and bits. */

import { IsqError } from "../errors.js";
import { checkRequest } from "../quants/check.js";
import { quantize as quantizeByReference } from "../quants/index.js";
import type { IsqType } from "../quants/table.js";
import {
  dataByteLength,
  elementCount,
  type QuantizedTensor,
  type QuantizeOptions,
} from "../quants/tensor.js";
import type { Backend, Session, SessionOptions, Tensor } from "./backend.js";
import { newBadTile } from "./encode-job.js";
import { checkBatch } from "./interpreter.js";
import { createObservation } from "./observe.js";
import { createPlacements } from "./placements.js";
import { type Batch, CACHE_BLOCK, type Program } from "./program.js";
import { checkParts } from "./reference-linear.js";
import { checkCachePositions, checkPlacement, checkWeightIndex } from "./session-checks.js";
import { teamOfOne } from "./team.js";
import { Banks, MOST_BANK_BYTES } from "./wasm-bank.js";
import { decode } from "./wasm-decode.js";
import { arrayReader, encode, refusalOf } from "./wasm-encode.js";
import { freeRows, placeRows } from "./wasm-linear.js";
import { wasmLogits } from "./wasm-logits.js";
import { Member } from "./wasm-member.js";
import { checkMemoryLimit, checkProduct, finishTensor, pickImportance, sideArrays } from "./wasm-parts.js";
import { multiplyRows } from "./wasm-product.js";
import { formOf, readTensor, type TensorForm } from "./wasm-read.js";
import { type HoldStep, usesOf } from "./wasm-weights.js";

/** How {@link wasm} lays out its memory. */
export interface WasmOptions {
  /** Most bytes of one WebAssembly memory, a multiple of 64 KiB; models that need more use several. 4 GiB when absent. */
  readonly memoryByteLength?: number;
}

/** Makes a WebAssembly backend. Throws `backend/unavailable` where there is no WebAssembly with SIMD. */
export async function wasm(options: WasmOptions = {}): Promise<Backend & { readonly name: "wasm" }> {
  const limit = options.memoryByteLength ?? MOST_BANK_BYTES;
  const banks = await Banks.open(checkMemoryLimit(limit));
  const sessions = new Set<Session>();
  let open = true;
  const checkOpen = () => {
    if (!open) throw new IsqError("backend/disposed", "the wasm backend was disposed");
  };
  return {
    name: "wasm",
    logitKernels: wasmLogits(banks.first),
    quantize(type, values, quantizeOptions) {
      checkOpen();
      return quantize(banks, type, values, quantizeOptions);
    },
    dequantize(tensor) {
      checkOpen();
      checkParts(tensor);
      const out = new Float32Array(elementCount(tensor.shape));
      decode(banks.first, tensor, out, teamOfOne());
      return out;
    },
    async matmul(weights, activations) {
      checkOpen();
      return multiply(banks, weights, activations);
    },
    async open(program, sessionOptions) {
      checkOpen();
      const ended = () => sessions.delete(session);
      const session: Session = await openSession(program, sessionOptions, limit, ended);
      sessions.add(session);
      return session;
    },
    dispose() {
      open = false;
      for (const session of sessions) session.dispose();
    },
  };
}

function quantize(
  banks: Banks,
  type: IsqType,
  values: Float32Array,
  options: QuantizeOptions,
): QuantizedTensor {
  const { row, algorithm, width, count, nonFinite } = checkRequest(type, values, options);
  const job = { type: row.name, algorithm, count, width, ...pickImportance(options) };
  const data = new Uint8Array(dataByteLength(row.name, options.shape));
  const out = { data, ...sideArrays(row.name, count, 1, (floats) => new Float32Array(floats)) };
  const bad = newBadTile(new Int32Array(1));
  const result = encode(banks.first, job, arrayReader(values), { ...out, bad }, teamOfOne());
  const refusal = refusalOf([result], options.name);
  if (refusal && nonFinite === "raw") return quantizeByReference(type, values, options);
  if (refusal) throw refusal;
  const { votes: _, ...parts } = out;
  return finishTensor(row.name, algorithm, options.shape, parts, [result]);
}

async function multiply(banks: Banks, weights: Tensor, activations: Float32Array): Promise<Float32Array> {
  const { rows, outputs, columns } = checkProduct(weights, activations);
  const out = new Float32Array(rows * outputs);
  if (out.length === 0) return out;
  const placed = await placeRows(banks, weights, 0, outputs);
  multiplyRows(
    placed,
    {
      count: rows,
      bring(row, count, bank, stage) {
        bank.floats.set(activations.subarray(row * columns, (row + count) * columns), stage / 4);
        return stage;
      },
    },
    { store: (row, first, values) => out.set(values, row * outputs + first) },
  );
  freeRows(placed);
  return out;
}

async function openSession(
  program: Program,
  options: SessionOptions,
  limit: number,
  ended: () => void,
): Promise<Session> {
  const blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
  const team = teamOfOne();
  const member = new Member(program, await Banks.open(limit), team);
  const forms = createPlacements<TensorForm>(program);
  const uses = usesOf(program);
  let open = true;
  const checkOpen = () => {
    if (!open) throw new IsqError("backend/disposed", "the session was disposed");
  };
  const turn = (step: HoldStep) => {
    checkOpen();
    forms[step]();
    member.weights.turn(step);
  };
  return {
    async place(weight, tensor) {
      checkOpen();
      checkPlacement(program, weight, tensor);
      await member.weights.place(weight, tensor, team);
      forms.put(weight, formOf(tensor, uses[weight]));
    },
    read(weight) {
      checkOpen();
      checkWeightIndex(program, weight);
      return readTensor(forms.get(weight), uses[weight], (target) => member.weights.read(weight, target));
    },
    hold: () => turn("hold"),
    commit: () => turn("commit"),
    discard: () => turn("discard"),
    observe(on) {
      checkOpen();
      const observation = on ? createObservation(program, (length) => new Float64Array(length)) : null;
      member.observe(observation);
      return observation;
    },
    run(batch: Batch) {
      checkOpen();
      forms.checkAll();
      checkBatch(program, batch, blocks);
      member.run(batch, []);
      const { values, start } = member.slots.view(program.logits);
      return values.slice(start, start + batch.outputs.length * program.vocabulary);
    },
    dispose() {
      if (!open) return;
      open = false;
      member.dispose();
      ended();
    },
  };
}
