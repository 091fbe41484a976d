/** Real files with bytes missing or changed: a value or a tagged error, and nothing else, in bounded time. */

import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { openSafetensors } from "../../src/files/safetensors.js";
import { fromBytes } from "../../src/files/source.js";
import { toDirectory } from "../fixtures/architecture.js";

const FIXTURES = new URL("../fixtures/architectures/", import.meta.url);
const MALFORMED = new URL("../malformed/safetensors/", import.meta.url);

/** A real file with three tensors, and where its header ends. */
function readFixture(name: string): { bytes: Uint8Array; headerEnd: number } {
  const bytes = new Uint8Array(readFileSync(new URL(`${name}/expected.safetensors`, FIXTURES)));
  return { bytes, headerEnd: 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true)) };
}

async function survive(bytes: Uint8Array): Promise<"value" | "refused"> {
  try {
    const file = await openSafetensors(fromBytes(bytes, "hostile"));
    for (const name of file.tensors.keys()) await file.read(name);
    return "value";
  } catch (error) {
    if (!isIsqError(error)) throw error;
    expect(error.details.file).toBe("hostile");
    return "refused";
  }
}

describe.each(readdirSync(FIXTURES))("%s", (name) => {
  const { bytes, headerEnd } = readFixture(name);

  test("cut at every byte of the header and at many of the data: refused", async () => {
    expect(await survive(bytes)).toBe("value");
    for (let end = 0; end < bytes.length; end += end < headerEnd + 64 ? 1 : 97) {
      expect(await survive(bytes.subarray(0, end)), String(end)).toBe("refused");
    }
    expect(await survive(bytes.subarray(0, -1))).toBe("refused");
  });

  test("bytes changed, taken out or put in", async () => {
    const edit = fc.record({
      at: fc.nat(headerEnd - 1),
      remove: fc.nat(2),
      insert: fc.uint8Array({ maxLength: 2 }),
    });
    const edits = fc.array(edit, { minLength: 1, maxLength: 4 });
    const property = fc.asyncProperty(edits, async (changes) => {
      let changed = [...bytes.subarray(0, headerEnd + 1024)];
      for (const { at, remove, insert } of changes) {
        changed = [...changed.slice(0, at), ...insert, ...changed.slice(at + remove)];
      }
      await survive(Uint8Array.from(changed));
    });
    await fc.assert(property, { numRuns: 200, seed: 20 });
  });
});

test("a shard index with characters changed", async () => {
  const read = (file: string) => new Uint8Array(readFileSync(new URL(`s9-good/${file}`, MALFORMED)));
  const index = read("model.safetensors.index.json");
  const shards = { "s1.safetensors": read("s1.safetensors"), "s2.safetensors": read("s2.safetensors") };
  const change = fc.tuple(fc.nat(index.length - 1), fc.constantFrom(...'{}[]":,.\\/0as \0\xff'));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
      const changed = index.slice();
      for (const [at, character] of changes) changed[at] = character.charCodeAt(0);
      const directory = toDirectory({ ...shards, "model.safetensors.index.json": changed });
      try {
        const checkpoint = await openCheckpoint(directory);
        for (const name of checkpoint.tensors.keys()) await checkpoint.read(name);
      } catch (error) {
        if (!isIsqError(error)) throw error;
        expect(error.details.file).toMatch(/^files\//);
      }
    }),
    { numRuns: 3000, seed: 21 },
  );
});
