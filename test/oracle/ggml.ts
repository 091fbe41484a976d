/**
 * The published llama.cpp library as a live oracle: npm `@node-llama-cpp/linux-x64`, called through koffi. Its
 * quantizers are compiled for plain x86-64 and therefore strict; of its dot products only the `_generic` ones of the x64
 * library are.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { type IsqType, TYPES } from "../../src/quants/index.js";

type Native = (...args: unknown[]) => unknown;

export interface GgmlOracle {
  /** Quantizes rows; every row with the same importance. */
  quantize(type: IsqType, values: Float32Array, columns: number, importance?: Float32Array): Uint8Array;
  /** Not for Q8_1, which ggml never decodes. */
  dequantize(type: IsqType, bytes: Uint8Array): Float32Array;
  /** Generic scalar dot of one row of a type with one row of its partner. */
  dot(type: IsqType, weights: Uint8Array, activations: Uint8Array): number;
}

/** Why the oracle cannot run on this machine, or undefined. */
export const oracleMissing: string | undefined =
  process.platform === "linux" && process.arch === "x64"
    ? undefined
    : `the published library exists for linux x64, this is ${process.platform} ${process.arch}`;

/** ggml's spelling in the names of its functions: q2_K. */
const nativeName = (type: IsqType): string => TYPES[type].stem.replace("_k", "_K");

export async function openOracle(): Promise<GgmlOracle> {
  const { default: koffi } = await import("koffi");
  const binaries: string = "@node-llama-cpp/linux-x64"; // has no types, and exists on its own platform only
  const { getBinsDir } = (await import(binaries)) as { getBinsDir(): { binsDir: string } };
  const folder = join(getBinsDir().binsDir, "linux-x64");
  const open = (name: string) => {
    const path = join(folder, name);
    if (!existsSync(path)) throw new Error(`${path} is missing; npm ci installs it`);
    return koffi.load(path);
  };
  const base = open("libggml-base.so");
  const cpu = open("libggml-cpu-x64.so");
  (cpu.func("void ggml_cpu_init()") as Native)(); // fills the f16 table of the dot products

  const functions = new Map<string, Native>();
  const bind = (library: typeof base, name: string, signature: (name: string) => string): Native => {
    const bound = functions.get(name) ?? (library.func(signature(name)) as Native);
    functions.set(name, bound);
    return bound;
  };
  const chunk = base.func(
    "size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t nrows, int64_t n_per_row, const float *imatrix)",
  ) as Native;

  return {
    quantize(type, values, columns, importance) {
      const { ggml, blockElements, blockBytes } = TYPES[type];
      const out = new Uint8Array((values.length / blockElements) * blockBytes);
      if (type === "Q8_1" || type === "Q8K") {
        // The chunk function aborts the process on these two.
        const quantizeRow = bind(
          base,
          `quantize_row_${nativeName(type)}_ref`,
          (name) => `void ${name}(const float *x, void *y, int64_t k)`,
        );
        quantizeRow(values, out, values.length);
      } else {
        chunk(ggml?.id, values, out, 0, values.length / columns, columns, importance ?? null);
      }
      return out;
    },

    dequantize(type, bytes) {
      const out = new Float32Array((bytes.length / TYPES[type].blockBytes) * TYPES[type].blockElements);
      const decode = bind(
        base,
        `dequantize_row_${nativeName(type)}`,
        (name) => `void ${name}(const void *x, float *y, int64_t k)`,
      );
      decode(bytes, out, out.length);
      return out;
    },

    dot(type, weights, activations) {
      const { dotPartner, blockElements, blockBytes } = TYPES[type];
      const product = bind(
        cpu,
        `ggml_vec_dot_${nativeName(type)}_${nativeName(dotPartner as IsqType)}_generic`,
        (name) =>
          `void ${name}(int n, _Out_ float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc)`,
      );
      const sum = new Float32Array(1);
      product((weights.length / blockBytes) * blockElements, sum, 0, weights, 0, activations, 0, 1);
      return sum[0];
    },
  };
}
