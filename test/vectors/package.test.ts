/** `isq/vectors` as its users import it. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { afterEach, expect, test, vi } from "vitest";
import { MUTANTS, readVectors } from "../../src/vectors/index.js";
import { loadVectors } from "./load.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
afterEach(() => vi.unstubAllGlobals());

test("the built package has the golden set, its provenance, traps and mutants", () => {
  const script = `
    import { readFileSync } from "node:fs";
    import { loadTraps, MUTANTS, parseVectors, readVectors } from "isq/vectors";
    import { quantize } from "isq/quants";
    const { cases, blocks, dots, tensors } = await readVectors();
    const one = cases.find(({ id }) => id.endsWith("Q4K/importance/ggml"));
    const mine = quantize(one.type, one.values, { shape: one.shape, importance: one.importance });
    const provenance = readFileSync(new URL(import.meta.resolve("isq/vectors/PROVENANCE.md")), "utf8");
    const packed = readFileSync(new URL(import.meta.resolve("isq/vectors/vectors.br")));
    console.log(JSON.stringify({
      counts: [cases, blocks, dots, tensors, loadTraps(), MUTANTS].map((list) => list.length),
      same: Buffer.from(mine.data).equals(one.data),
      provenance: provenance.slice(0, 40),
      bytes: packed.length,
      parse: typeof parseVectors,
    }));`;
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: root,
    encoding: "utf8",
  });
  const { counts, same, provenance, bytes, parse } = JSON.parse(said);
  const { cases, blocks, dots, tensors } = loadVectors();
  expect(counts).toEqual([cases.length, blocks.length, dots.length, tensors.length, 14, MUTANTS.length]);
  expect([same, parse]).toEqual([true, "function"]);
  expect(provenance).toMatch(/^# Where the golden vectors come from/);
  expect(bytes).toBeLessThan(3_000_000);
});

const packed = readFileSync(new URL("../../src/vectors/vectors.br", import.meta.url));

test("without files: a server that says content-encoding hands over what can be parsed", async () => {
  vi.stubGlobal("fetch", async () => new Response(brotliDecompressSync(packed) as BodyInit));
  expect((await readVectors()).cases.length).toBe(loadVectors().cases.length);
});

test("without files and without brotli: an error says what to do", async () => {
  vi.stubGlobal("fetch", async () => new Response(packed as unknown as BodyInit));
  vi.stubGlobal(
    "DecompressionStream",
    class {
      constructor() {
        throw new TypeError("unsupported format");
      }
    },
  );
  await expect(readVectors()).rejects.toMatchObject({ tag: "backend/unavailable" });
});
