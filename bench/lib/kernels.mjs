// The package's WebAssembly kernels as they are compiled, without the backend around them.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../../", import.meta.url);

/** Compiles what changed and instantiates; `path` takes another build of the same sources instead. */
export async function loadKernels(byteLength, path) {
  if (!path)
    execFileSync(process.execPath, [fileURLToPath(new URL("scripts/build-wasm.mjs", root)), "--if-changed"]);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(byteLength / 65536) + 16, maximum: 65536 });
  const bytes = readFileSync(path ?? new URL("build/isq.wasm", root));
  const { instance } = await WebAssembly.instantiate(bytes, { env: { memory, abort: () => {} } });
  const kernels = instance.exports;
  let next = kernels.HEAP_BASE.value;
  return {
    kernels,
    memory,
    reserve(size) {
      const at = next;
      next = (at + size + 63) & ~63;
      if (next > memory.buffer.byteLength) throw new Error("not enough memory reserved");
      return at;
    },
    put(at, array) {
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      new Uint8Array(memory.buffer).set(bytes, at);
      return at;
    },
    bytes: (at, size) => new Uint8Array(memory.buffer, at, size).slice(),
  };
}
