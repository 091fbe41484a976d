/**
 * What an adapter's arithmetic is worth: canaries at start-up for the operations, and a small tensor for every encoder when
 * it is first used, because optimizers treat long kernels otherwise than short ones.
 */

import { IsqError } from "../errors.js";
import {
  bitsOf,
  f32,
  floatFromHalf,
  fromBits,
  halfFromFloat,
  nearestInt,
  roundHalfAway,
} from "../numerics.js";
import { elementCount, type QuantizedTensor } from "../quants/tensor.js";
import type { GpuDevice } from "./webgpu-device.js";
import { runKernels, setParameters, upload } from "./webgpu-run.js";

/**
 * `exact`: every operation, subnormals included. `repaired`: exact for normal numbers; blocks that need others are flagged
 * and done by WebAssembly. `tolerant`: neither; its bytes are not the contract's.
 */
export type Exactness = "exact" | "repaired" | "tolerant";

export interface ProbeResult {
  readonly exactness: Exactness;
  readonly canaries: number;
  /** Canaries with another result than strict arithmetic, by operation. */
  readonly mismatches: Readonly<Record<string, number>>;
  /** Divisions and roots that their correction does not cover: flagged, so right all the same. */
  readonly uncorrected: number;
}

const CANARIES = 4096;
const WORDS = 10;
const UNCORRECTED = 0xffffffff;
const OPERATIONS = [
  "multiply-add",
  "difference of products",
  "sum less term",
  "quotient",
  "root",
  "to binary16",
  "from binary16",
  "nearest",
  "nearest, away",
  "subnormal",
] as const;

export async function probe(gpu: GpuDevice): Promise<ProbeResult> {
  const inputs = makeCanaries();
  setParameters(gpu, { count: CANARIES });
  upload(gpu, "values", inputs);
  const kernel = { entryPoint: "sing", threads: CANARIES, groupThreads: 64 } as const;
  const source = { name: "result", byteLength: 4 * WORDS * CANARIES } as const;
  const sung = await runKernels(gpu, "probe", {}, [kernel], 0, source, (bytes) =>
    new Uint32Array(bytes).slice(),
  );
  const counts = new Array<number>(WORDS).fill(0);
  let uncorrected = 0;
  for (let i = 0; i < CANARIES; i++) {
    for (const [k, bits] of expected(inputs.subarray(4 * i, 4 * i + 4)).entries()) {
      const actual = sung[WORDS * i + k];
      if (actual === UNCORRECTED && (k === 3 || k === 4)) uncorrected++;
      else if (actual !== bits) counts[k]++;
    }
  }
  const mismatches = Object.fromEntries(
    OPERATIONS.map((name, k) => [name, counts[k]] as const).filter(([, count]) => count > 0),
  );
  const wrong = counts.slice(0, WORDS - 1).some((count) => count > 0);
  const exactness = wrong ? "tolerant" : counts[WORDS - 1] > 0 ? "repaired" : "exact";
  return { exactness, canaries: CANARIES, mismatches, uncorrected };
}

/**
 * Three numbers of ordinary size and a binary16 number to a canary. Every other third number is a tie between integers once
 * it is multiplied by 512, or a neighbour of one; every fourth first number one between binary16 numbers.
 */
function makeCanaries(): Uint32Array {
  let seed = 1;
  const word = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed;
  };
  const number = () => ((word() & 0x807fffff) | ((115 + ((word() >>> 13) % 12)) << 23)) >>> 0;
  const tie = () => (bitsOf(((word() >>> 20) - 2048 + 0.5) / 512) + ((word() >>> 16) % 3) - 1) >>> 0;
  const half = () => {
    const bits = word() >>> 16;
    return (bits & 0x7c00) === 0x7c00 ? bits & 0x83ff : bits;
  };
  const canaries = new Uint32Array(4 * CANARIES);
  for (let i = 0; i < CANARIES; i++) {
    const a = i % 4 === 0 ? ((number() & 0xffffe000) | 0x1000) >>> 0 : number();
    canaries.set([a, number(), i % 2 === 0 ? tie() : number(), half()], 4 * i);
  }
  return canaries;
}

function expected(words: Uint32Array): number[] {
  const [a, b, c] = [fromBits(words[0]), fromBits(words[1]), fromBits(words[2])];
  const scaled = f32(c * 512);
  const subnormal = words[0] & 0x807fffff;
  return [
    bitsOf(f32(f32(a * b) + c)),
    bitsOf(f32(f32(a * a) - f32(b * c))),
    bitsOf(f32(f32(a + b) - a)),
    bitsOf(f32(a / b)),
    bitsOf(f32(Math.sqrt(Math.abs(a)))),
    halfFromFloat(f32(a * 1024)),
    bitsOf(floatFromHalf(words[3])),
    nearestInt(scaled) >>> 0,
    bitsOf(roundHalfAway(scaled) || (scaled < 0 ? -0 : 0)),
    subnormal >>> 0,
  ];
}

/** Values on which an encoder shows whether its kernels are exact: ordinary ones, ties, zeros, outliers; whole blocks. */
export function makeProof(): Float32Array {
  let seed = 7;
  const unit = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
  return Float32Array.from({ length: 4096 }, (_, i) => {
    const gauss = unit() + unit() + unit() + unit() - 2;
    const kind = (i >> 8) % 4;
    if (kind === 1) return Math.round(gauss * 16) / 64;
    if (kind === 2) return (i >> 5) % 3 === 0 ? 0 : gauss * 2 ** -9;
    return i % 61 === 0 ? gauss * 4 : gauss * 0.04;
  });
}

/** Throws `backend/inexact` unless two tensors have the same bytes. */
export function compareProof(actual: QuantizedTensor, wanted: QuantizedTensor, adapter: string): void {
  const differing = wanted.data.reduce((count, byte, i) => count + (byte === actual.data[i] ? 0 : 1), 0);
  if (differing === 0) return;
  const { type, algorithm } = wanted;
  throw new IsqError(
    "backend/inexact",
    `${adapter} encodes ${type} (${algorithm}) with ${differing} other bytes than the contract on ${elementCount(wanted.shape)} probe values`,
    { field: "adapter", value: adapter, limit: 0, type, algorithm, differing },
  );
}
