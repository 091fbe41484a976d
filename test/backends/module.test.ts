/** The compiled module: deterministic instructions only, and constants that say what the table says. */

import binaryen from "assemblyscript/binaryen";
import { describe, expect, it } from "vitest";
import { compileModule } from "../../src/backends/wasm-bank.js";
import { WASM_BASE64 } from "../../src/backends/wasm-bytes.js";
import { TABLE } from "../../src/quants/table.js";

const bytes = Buffer.from(WASM_BASE64, "base64");

describe("the WebAssembly module", () => {
  it("has no relaxed instruction, none that loads from or stores to other modules, and no fused multiply-add", () => {
    const module = binaryen.readBinary(new Uint8Array(bytes));
    const text = module.emitText();
    module.dispose();
    expect(text).toMatch(/f32x4\.mul/); // the text is that of the kernels
    expect(text).not.toMatch(/relaxed/);
    const imports = [...text.matchAll(/\(import "([^"]+)" "([^"]+)"/g)].map(
      ([, from, name]) => `${from}.${name}`,
    );
    expect(imports).toEqual(["env.memory"]);
  });

  it("exports the sizes of the table for every type", async () => {
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536 });
    const { exports } = await WebAssembly.instantiate(await compileModule(), { env: { memory } });
    for (const { name, family, blockElements, blockBytes } of TABLE) {
      if (family === "tensor") continue;
      expect((exports[`${name}_BLOCK_ELEMENTS`] as WebAssembly.Global).value, name).toBe(blockElements);
      expect((exports[`${name}_BLOCK_BYTES`] as WebAssembly.Global).value, name).toBe(blockBytes);
    }
    expect((exports["HEAP_BASE"] as WebAssembly.Global).value).toBeGreaterThan(0);
  });
});
