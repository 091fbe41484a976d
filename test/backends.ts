/** The implementations under test: every suite that takes an implementation runs once for each. */

import { threads } from "../src/backends/threads.js";
import { wasm } from "../src/backends/wasm.js";
import { activationBytes, multiplyCoded } from "../src/backends/wasm-activations.js";
import { Bank } from "../src/backends/wasm-bank.js";
import { packRows, roomOf } from "../src/backends/wasm-quads.js";
import { TYPES } from "../src/quants/index.js";
import type { Codec } from "./suites/codec-checks.js";
import { REFERENCE } from "./suites/reference-codec.js";

export interface Implementation {
  readonly name: string;
  makeCodec(): Codec | Promise<Codec>;
}

export const IMPLEMENTATIONS: readonly Implementation[] = [
  { name: "reference", makeCodec: () => REFERENCE },
  { name: "wasm", makeCodec: makeWasm },
  ...[1, 2, 5].map((workers) => ({
    name: `threads, ${workers} workers`,
    makeCodec: () => threads({ workers }),
  })),
];

/** The backend, with the products and conversions that its kernels do, called as they are. */
async function makeWasm(): Promise<Codec> {
  const backend = await wasm();
  const bank = await Bank.open();
  const convert = (
    name: string,
    values: Float32Array | Uint16Array | Uint8Array,
    size: number,
    scale?: number,
  ) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const [src, dst] = bank.scratch(bytes.length, size * values.length);
    bank.bytes.set(bytes, src);
    bank.call(name, src, dst, values.length, ...(scale === undefined ? [] : [scale]));
    return bank.bytes.slice(dst, dst + size * values.length).buffer;
  };
  return {
    quantize: (type, values, options) => backend.quantize(type, values, options),
    dequantize: (tensor) => backend.dequantize(tensor),
    dotOrders: ["ggml"],
    dot(type, weights, activations) {
      const { blockBytes, blockElements } = TYPES[type];
      const width = (weights.length / blockBytes) * blockElements;
      const { wide: wideBytes } = activationBytes(type, width);
      const address = bank.allocate(roomOf(type, 1) * weights.length);
      bank.bytes.set(weights, address);
      packRows({ bank, address, rows: 1 }, type, width, weights.length);
      // Four rows of activations meet other kernels than the fifth.
      const rows = 5;
      const sizes = [activations.length, wideBytes, 4].map((size) => rows * size);
      const [coded, wide, out] = bank.scratch(...sizes);
      for (let r = 0; r < rows; r++) bank.bytes.set(activations, coded + r * activations.length);
      multiplyCoded(bank, type, { weights: address, coded, wide, out, stride: 1 }, 1, rows, width);
      bank.free(address);
      const bits = new Set(bank.words.slice(out / 4, out / 4 + rows));
      if (bits.size !== 1) throw new Error(`${type}: ${[...bits]} for the same rows`);
      return bank.floats[out / 4];
    },
    convert: {
      halves: (values) => new Uint16Array(convert("f16_encode", values, 2)),
      bfloats: (values) => new Uint16Array(convert("bf16_encode", values, 2)),
      fromHalves: (halves) => new Float32Array(convert("f16_decode", halves, 4)),
      fromBfloats: (bfloats) => new Float32Array(convert("bf16_decode", bfloats, 4)),
      fromE4m3: (codes) => new Float32Array(convert("fp8_dequantize", codes, 4, 1)),
    },
    dispose: () => backend.dispose(),
  };
}
