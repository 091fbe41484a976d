/** Quantizing on a pool: the arrays that workers read from and write to, and who gets them afterwards. */

import { IsqError } from "../errors.js";
import { checkRequest } from "../quants/check.js";
import { quantize as quantizeByReference } from "../quants/index.js";
import type { IsqType } from "../quants/table.js";
import { dataByteLength, type QuantizedTensor } from "../quants/tensor.js";
import type { FileTensor, WorkOptions } from "./backend.js";
import { newBadTile } from "./encode-job.js";
import type { Pool } from "./pool.js";
import { compact, type Staging, sharedBytes, sharedFloats, sharedWords } from "./shared.js";
import { refusalOf } from "./wasm-encode.js";
import { finishTensor, sideArrays } from "./wasm-parts.js";

/** A pool and the memory that its calls use in turn. */
export interface Workshop {
  readonly pool: Pool;
  readonly staging: Staging;
}

interface Maker {
  bytes(length: number): Uint8Array;
  floats(length: number): Float32Array;
}

/** As `quantize` of isq/quants. */
export async function encodeValues(
  { pool, staging }: Workshop,
  type: IsqType,
  values: Float32Array,
  options: WorkOptions,
): Promise<QuantizedTensor> {
  const request = checkRequest(type, values, options);
  const made = await withStaged(staging, async (staged) => {
    const tensor = await encodeTogether(pool, request, stage(values, staged), staged, options);
    return tensor instanceof IsqError ? tensor : ownedTensor(tensor);
  });
  if (!(made instanceof IsqError)) return made;
  if (request.nonFinite === "raw") return quantizeByReference(type, values, options);
  throw made;
}

/** Values in shared memory stay where they are. */
function stage(values: Float32Array, staged: Maker): Float32Array {
  if (values.buffer instanceof SharedArrayBuffer) return values;
  const shared = staged.floats(values.length);
  shared.set(values);
  return shared;
}

/** As {@link encodeValues}, of values that the workers read from a file; the result is in shared memory of its own. */
export async function encodeFile(
  pool: Pool,
  type: IsqType,
  file: FileTensor,
  options: WorkOptions,
): Promise<QuantizedTensor> {
  const fresh = { bytes: sharedBytes, floats: sharedFloats };
  const made = await encodeTogether(pool, checkRequest(type, null, options), file, fresh, options);
  if (made instanceof IsqError) throw made;
  return made;
}

/** As {@link encodeFile}; the result lasts until `use` is done with it. */
export async function withEncodedFile<Result>(
  { pool, staging }: Workshop,
  type: IsqType,
  file: FileTensor,
  options: WorkOptions,
  use: (tensor: QuantizedTensor) => Promise<Result>,
): Promise<Result> {
  const request = checkRequest(type, null, options);
  return withStaged(staging, async (staged) => {
    const made = await encodeTogether(pool, request, file, staged, options);
    if (made instanceof IsqError) throw made;
    return use(made);
  });
}

/** What was lent comes back when `work` succeeds. After an abort or a death workers may still write: it is dropped. */
async function withStaged<Result>(
  staging: Staging,
  work: (maker: Maker) => Promise<Result>,
): Promise<Result> {
  const lent: SharedArrayBuffer[] = [];
  const lend = (byteLength: number) => {
    const buffer = staging.lend(byteLength);
    lent.push(buffer);
    return buffer;
  };
  const result = await work({
    bytes: (length) => new Uint8Array(lend(length), 0, length),
    floats: (length) => new Float32Array(lend(4 * length), 0, length),
  });
  for (const buffer of lent) staging.giveBack(buffer);
  return result;
}

/** The tensor, in memory that `make` gives, or the refusal of its first non-finite value. */
async function encodeTogether(
  pool: Pool,
  { row, algorithm, width, count }: ReturnType<typeof checkRequest>,
  values: Float32Array | FileTensor,
  make: Maker,
  options: WorkOptions,
): Promise<QuantizedTensor | IsqError> {
  const importance = options.importance && { importance: compact(options.importance) };
  const job = { type: row.name, algorithm, count, width, ...importance };
  const data = make.bytes(dataByteLength(row.name, options.shape));
  const { votes, ...sides } = sideArrays(row.name, count, pool.members, (n) => make.floats(n).fill(0));
  const bad = newBadTile(sharedWords(1));
  const out = { data, ...sides, ...(votes && { votes }), bad };
  const results = await pool.together({ kind: "encode", job, values, out }, options.signal);
  const refusal = refusalOf(results, options.name);
  if (refusal) return refusal;
  const finished = results.map((result) => result!);
  return finishTensor(row.name, algorithm, options.shape, { data, ...sides }, finished);
}

/** Callers get memory of their own: shared memory is refused by some functions of the platform. */
function ownedTensor(tensor: QuantizedTensor): QuantizedTensor {
  const { data, scales, zeros } = tensor;
  return {
    ...tensor,
    data: data.slice(),
    ...(scales && { scales: scales.slice() }),
    ...(zeros && { zeros: zeros.slice() }),
  };
}
