/** Decoding with the kernels, by a team: tile by tile, to binary32. */

import { DENSE_BYTES } from "../dense.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { elementCount, type QuantizedTensor } from "../quants/tensor.js";
import type { DenseType, Tensor } from "./backend.js";
import { isDense } from "./reference-linear.js";
import type { Team } from "./team.js";
import type { Bank } from "./wasm-bank.js";

const f32 = Math.fround;
const TILE = 65536;

/** Decodes every element of a tensor into `out`. */
export function decode(bank: Bank, tensor: Tensor, out: Float32Array, team: Team): void {
  const count = elementCount(tensor.shape);
  if (!isDense(tensor) && TYPES[tensor.type].family === "group") {
    decodeGroups(bank, tensor, out, team);
    return;
  }
  const { elements, bytes } = unitOf(tensor.type);
  const [src, dst] = bank.scratch((TILE / elements) * bytes, 4 * TILE);
  for (let n = team.claim(); n * TILE < count; n = team.claim()) {
    team.check();
    const first = n * TILE;
    const length = Math.min(TILE, count - first);
    const start = (first / elements) * bytes;
    bank.bytes.set(tensor.data.subarray(start, start + (length / elements) * bytes), src);
    decodeRun(bank, tensor, src, dst, length);
    out.set(bank.floats.subarray(dst / 4, dst / 4 + length), first);
  }
}

/** Elements and bytes of the smallest run of a type that can be decoded alone. */
export function unitOf(type: IsqType | DenseType): { elements: number; bytes: number } {
  if (type === "F32" || type === "F16" || type === "BF16") return { elements: 1, bytes: DENSE_BYTES[type] };
  const { family, blockElements, blockBytes } = TYPES[type];
  return family === "tensor" ? { elements: 1, bytes: 1 } : { elements: blockElements, bytes: blockBytes };
}

/** Decodes `count` elements at `src` to binary32 at `dst`. Not for HQQ, whose groups are spread out. */
export function decodeRun(bank: Bank, tensor: Tensor, src: number, dst: number, count: number): void {
  if (isDense(tensor)) widenRun(bank, tensor.type, src, dst, count);
  else if (TYPES[tensor.type].family === "tensor") {
    bank.call("fp8_dequantize", src, dst, count, tensor.dequantizeScale!);
  } else bank.call(`${TYPES[tensor.type].stem}_dequantize`, src, dst, count);
}

/** Widens `count` elements of a dense type; source and target may be the same for F32 only. */
export function widenRun(bank: Bank, type: DenseType, src: number, dst: number, count: number): void {
  if (type === "F16") bank.call("f16_decode", src, dst, count);
  else if (type === "BF16") bank.call("bf16_decode", src, dst, count);
  else bank.bytes.copyWithin(dst, src, src + 4 * count);
}

/** HQQ: codes of a run of elements lie in up to two rows of codes, so the whole tensor is brought in. */
function decodeGroups(bank: Bank, tensor: Tensor, out: Float32Array, team: Team): void {
  if (isDense(tensor)) return;
  const { type, algorithm, data, scales, zeros } = tensor;
  const groups = scales!.length;
  const addresses = [data.byteLength, 4 * groups, 4 * groups].map((byteLength) => bank.allocate(byteLength));
  const [codes, s, z] = addresses;
  try {
    bank.bytes.set(data, codes);
    bank.floats.set(scales!, s / 4);
    bank.floats.set(zeros!, z / 4);
    const [dst] = bank.scratch(4 * TILE);
    const name = `${TYPES[type].stem}_dequantize_${algorithm}`;
    for (let n = team.claim(); n * TILE < out.length; n = team.claim()) {
      team.check();
      const first = n * TILE;
      const length = Math.min(TILE, out.length - first);
      bank.call(name, codes, s, z, groups, first, length, dst);
      out.set(bank.floats.subarray(dst / 4, dst / 4 + length), first);
    }
  } finally {
    for (const address of addresses) bank.free(address);
  }
}

/** One row of HQQ, straight from the tensor: for embeddings, of which a step needs a few rows only. */
export function decodeGroupedRow(tensor: QuantizedTensor, row: number, out: Float32Array): void {
  const { type, algorithm, data } = tensor;
  const scales = tensor.scales!;
  const zeros = tensor.zeros!;
  const groups = scales.length;
  for (let i = 0, element = row * out.length; i < out.length; i++, element++) {
    const r = algorithm === "hqq" ? element % 64 : Math.floor(element / groups);
    const j = algorithm === "hqq" ? Math.floor(element / 64) : element % groups;
    const byte = data[(type === "HQQ8" ? r : r & 31) * groups + j];
    const code = type === "HQQ8" ? byte : r < 32 ? byte >> 4 : byte & 15;
    out[i] = f32(f32(code - zeros[j]) * scales[j]);
  }
}
