/** The SIMD kernels behind the interface of the codec suite: fills the module's memory, calls, copies the result out. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import loader from "@assemblyscript/loader";
import {
  type IsqType,
  type QuantizedTensor,
  type QuantizeOptions,
  quantize as quantizeByReference,
  TYPES,
} from "../../src/quants/index.js";
import type { Codec } from "../suites/codec-checks.js";

type Kernel = (...args: number[]) => number;

export interface Kernels {
  readonly memory: WebAssembly.Memory;
  /** First free byte. */
  readonly heapBase: number;
  call(name: string, ...args: number[]): number;
  constant(name: string): number;
}

const PAGES = 2048;
const root = new URL("../../", import.meta.url);

export async function loadKernels(): Promise<Kernels> {
  execFileSync(process.execPath, [fileURLToPath(new URL("scripts/build-wasm.mjs", root))]);
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: 65536 });
  const bytes = readFileSync(new URL("build/isq.wasm", root));
  const { exports } = await loader.instantiate(bytes, { env: { memory } });
  const names = exports as unknown as Record<string, Kernel | WebAssembly.Global>;
  const constant = (name: string) => (names[name] as WebAssembly.Global).value as number;
  return {
    memory,
    heapBase: constant("HEAP_BASE"),
    constant,
    call: (name, ...args) => (names[name] as Kernel)(...args),
  };
}

/** Areas one after the other from the heap base, each starting at a multiple of 64. */
export class Areas {
  private next: number;
  constructor(private readonly kernels: Kernels) {
    this.next = kernels.heapBase;
  }

  reserve(byteLength: number): number {
    const at = this.next;
    this.next = (at + byteLength + 63) & ~63;
    if (this.next > this.kernels.memory.buffer.byteLength) throw new Error("the test's memory is too small");
    return at;
  }

  put(values: Float32Array | Uint8Array | Uint16Array): number {
    const at = this.reserve(values.byteLength);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(this.kernels.memory.buffer).set(bytes, at);
    return at;
  }

  bytes(at: number, byteLength: number): Uint8Array {
    return new Uint8Array(this.kernels.memory.buffer, at, byteLength).slice();
  }

  floats(at: number, count: number): Float32Array {
    return new Float32Array(this.kernels.memory.buffer, at, count).slice();
  }
}

const countOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export function kernelCodec(kernels: Kernels): Codec {
  return {
    quantize: (type, values, options) => quantize(kernels, type, values, options),
    dequantize: (tensor) => dequantize(kernels, tensor),
    convert: {
      halves: (values) => new Uint16Array(convert(kernels, "f16_encode", values, 2).buffer),
      bfloats: (values) => new Uint16Array(convert(kernels, "bf16_encode", values, 2).buffer),
      fromHalves: (halves) => new Float32Array(convert(kernels, "f16_decode", halves, 4).buffer),
      fromBfloats: (bfloats) => new Float32Array(convert(kernels, "bf16_decode", bfloats, 4).buffer),
      fromE4m3: (codes) => new Float32Array(convert(kernels, "fp8_dequantize", codes, 4, 1).buffer),
    },
  };
}

function convert(
  kernels: Kernels,
  name: string,
  values: Float32Array | Uint8Array | Uint16Array,
  size: number,
  ...rest: number[]
): Uint8Array {
  const areas = new Areas(kernels);
  const out = areas.reserve(values.length * size);
  kernels.call(name, areas.put(values), out, values.length, ...rest);
  return areas.bytes(out, values.length * size);
}

function quantize(
  kernels: Kernels,
  type: IsqType,
  values: Float32Array,
  options: QuantizeOptions,
): QuantizedTensor {
  // Kernels are for finite numbers; whoever calls them gives the rest to the reference.
  if (options.nonFinite === "raw") return quantizeByReference(type, values, options);
  const { family, stem, algorithms } = TYPES[type];
  const algorithm = options.algorithm ?? algorithms[0];
  const shape = [...options.shape];
  const head = { type, algorithm, shape };
  if (family === "group") return { ...head, ...quantizeGroups(kernels, stem, algorithm, values) };
  if (family === "tensor") return { ...head, ...quantizeTensor(kernels, stem, algorithm, values) };
  const { blockBytes, blockElements } = TYPES[type];
  const areas = new Areas(kernels);
  const byteLength = (values.length / blockElements) * blockBytes;
  const importance = options.importance ? areas.put(options.importance) : 0;
  const width = shape[shape.length - 1];
  const out = areas.reserve(byteLength);
  new Uint8Array(kernels.memory.buffer, out, byteLength).fill(0xa5); // every byte must be written
  const rows = values.length / width;
  const again = kernels.call(
    `${stem}_quantize_${algorithm}`,
    areas.put(values),
    importance,
    out,
    rows,
    width,
  );
  return { ...head, data: areas.bytes(out, byteLength), ...(again > 0 && { reencodedBlocks: again }) };
}

function quantizeGroups(kernels: Kernels, stem: string, algorithm: string, values: Float32Array) {
  const areas = new Areas(kernels);
  const groups = values.length / 64;
  const byteLength = stem === "hqq4" ? values.length / 2 : values.length;
  const data = areas.reserve(byteLength);
  const [scales, zeros, errors] = [0, 0, 0].map(() => areas.reserve(groups * 4));
  kernels.call(`${stem}_quantize_${algorithm}`, areas.put(values), data, scales, zeros, errors, groups);
  return {
    data: areas.bytes(data, byteLength),
    scales: areas.floats(scales, groups),
    zeros: areas.floats(zeros, groups),
  };
}

function quantizeTensor(kernels: Kernels, stem: string, algorithm: string, values: Float32Array) {
  const areas = new Areas(kernels);
  const src = areas.put(values);
  const out = areas.reserve(values.length);
  const peak = kernels.call(`${stem}_peak`, src, values.length);
  const scale = kernels.call(`${stem}_scale_${algorithm}`, peak);
  kernels.call(`${stem}_encode_${algorithm}`, src, out, values.length, scale);
  const inverse = Math.fround(1 / scale);
  const data = areas.bytes(out, values.length);
  return algorithm === "ocp"
    ? { data, quantizeScale: inverse, dequantizeScale: scale }
    : { data, quantizeScale: scale, dequantizeScale: inverse };
}

function dequantize(kernels: Kernels, tensor: QuantizedTensor): Float32Array {
  const { stem, family } = TYPES[tensor.type];
  const count = countOf(tensor.shape);
  const areas = new Areas(kernels);
  const data = areas.put(tensor.data);
  const out = areas.reserve(count * 4);
  if (family === "block") kernels.call(`${stem}_dequantize`, data, out, count);
  else if (family === "tensor") {
    kernels.call(`${stem}_dequantize`, data, out, count, tensor.dequantizeScale as number);
  } else {
    const scales = areas.put(tensor.scales as Float32Array);
    const zeros = areas.put(tensor.zeros as Float32Array);
    kernels.call(
      `${stem}_dequantize_${tensor.algorithm}`,
      data,
      scales,
      zeros,
      (tensor.scales as Float32Array).length,
      0,
      count,
      out,
    );
  }
  return areas.floats(out, count);
}
