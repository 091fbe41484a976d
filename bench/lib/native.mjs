// The published llama.cpp libraries (npm @node-llama-cpp/linux-x64), called through koffi. Arrays live in memory of the C
// library and travel as addresses, so that no copy is timed.
import { join } from "node:path";
import { getBinsDir } from "@node-llama-cpp/linux-x64";
import koffi from "koffi";

export { koffi };

const folder = join(getBinsDir().binsDir, "linux-x64");
/** koffi closes a library that nobody refers to any more, whatever of it is still in use. */
const libraries = new Map();

export function open(name) {
  if (!libraries.has(name)) libraries.set(name, koffi.load(join(folder, name)));
  return libraries.get(name);
}

const libc = koffi.load("libc.so.6");
const malloc = libc.func("uintptr_t aligned_alloc(size_t alignment, size_t size)");
const put = libc.func("void memcpy(uintptr_t to, const void *from, size_t size)");
const get = libc.func("void memcpy(_Out_ void *to, uintptr_t from, size_t size)");

/** Bytes outside of JavaScript; never freed: a run is short. */
export function reserve(byteLength) {
  return malloc(64, (byteLength + 63) & ~63);
}

export function copyIn(address, array) {
  put(address, array, array.byteLength);
  return address;
}

export function copyOut(address, byteLength) {
  const out = new Uint8Array(byteLength);
  get(out, address, byteLength);
  return out;
}

/** ggml's spelling in the names of its functions: q2_K. */
const spelled = (row) => row.stem.replace("_k", "_K");

/** Encoder and decoder of one type as functions of addresses; `decode` is undefined where ggml has none (Q8_1). */
export function nativeCodec(row) {
  const base = open("libggml-base.so");
  const chunk = base.func(
    "size_t ggml_quantize_chunk(int type, uintptr_t src, uintptr_t dst, int64_t start, int64_t rows, int64_t columns, uintptr_t importance)",
  );
  const encodeRow = ["Q8_1", "Q8K"].includes(row.name)
    ? base.func(`void quantize_row_${spelled(row)}_ref(uintptr_t x, uintptr_t y, int64_t count)`)
    : undefined;
  const decode =
    row.name === "Q8_1"
      ? undefined
      : base.func(`void dequantize_row_${spelled(row)}(uintptr_t x, uintptr_t y, int64_t count)`);
  return {
    encode(src, dst, rows, columns, importance) {
      if (encodeRow) encodeRow(src, dst, rows * columns);
      else chunk(row.ggml.id, src, dst, 0, rows, columns, importance);
    },
    decode,
  };
}
