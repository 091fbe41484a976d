/** The catalogue of malformed files, and valid ones with bytes missing or changed. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openGguf } from "../../src/files/gguf.js";
import { openGgufFiles } from "../../src/files/gguf-split.js";
import { fromBytes } from "../../src/files/source.js";
import { openDirectory } from "../../src/node/directory.js";
import { expectBounded } from "../suites/bounded.js";
import { content, open, writeContent } from "./gguf-support.js";

const FOLDER = "test/malformed/gguf";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));
const file = (name: string) => new Uint8Array(readFileSync(`${FOLDER}/${name}`));
const cases = Object.entries(expected);

/** Opens and reads everything. Returns the warnings. */
async function readAll(bytes: Uint8Array, name: string): Promise<readonly string[]> {
  const opened = await openGguf(fromBytes(bytes, name));
  for (const [tensor, { byteLength }] of opened.tensors) {
    expect((await opened.read(tensor)).byteLength).toBe(byteLength);
  }
  return opened.warnings;
}

describe("the malformed catalogue", () => {
  test.each(cases.filter(([name]) => name.endsWith(".gguf")))("%s: %s", async (name, tag) => {
    const reading = readAll(file(name), name);
    if (tag === "ok") await expect(reading).resolves.toBeDefined();
    else await expect(reading).rejects.toMatchObject({ name: "IsqError", tag, details: { file: name } });
  });

  test.each(cases.filter(([name]) => name.endsWith("/")))("%s: %s", async (name, tag) => {
    const directory = await openDirectory(`${FOLDER}/${name}`);
    const opening = openGgufFiles(directory, "m-00001-of-00002.gguf");
    if (tag !== "ok") {
      const details = { file: `${directory.name}/m-00001-of-00002.gguf` };
      await expect(opening).rejects.toMatchObject({ name: "IsqError", tag, details });
      return;
    }
    const files = await opening;
    expect([...files.tensors.keys()]).toEqual(["a", "b"]);
    expect((await files.read("b")).byteLength).toBe(32);
    await files.close();
  });

  test("oddities are told", async () => {
    expect(await readAll(file("g7-bool-2.gguf"), "f")).toHaveLength(2);
    const unknown = await open(file("g11-type-43.gguf"));
    expect(unknown.tensors.get("t")).toMatchObject({ dtype: "#43", byteLength: 64 });
    expect(unknown.warnings[0]).toContain("#43");
    expect((await open(file("g11-type-31.gguf"))).tensors.get("t")?.dtype).toBe("Q4_0_4_4");
    const good = file("g1-good.gguf");
    const behind = Uint8Array.of(...good, 1, 2, 3);
    expect(await readAll(good, "f")).toEqual([]);
    expect(await readAll(behind, "f")).toEqual([expect.stringMatching(/^3 bytes behind the last tensor/)]);
    for (const [name, warning] of [
      ["g15-gap", /^64 bytes between the tensors/],
      ["g15-first-not-at-0", /^32 bytes between the tensors/],
      ["g15-reordered", /^the data of "t" lies before/],
    ] as const) {
      expect(await readAll(file(`${name}.gguf`), "f")).toEqual([expect.stringMatching(warning)]);
    }
  });
});

test("200,000 tensors take time in proportion", async () => {
  const tensors = Array.from({ length: 200_000 }, (_, i) => ({
    name: `t${i}`,
    type: "I8",
    shape: [0],
    data: new Uint8Array(0),
  }));
  const bytes = await writeContent({ metadata: new Map(), tensors });
  await expectBounded(10, async () => expect((await open(bytes)).tensors.size).toBe(200_000));
});

test("a huge count of anything takes no memory", async () => {
  // A source that claims 2^40 bytes: only caps and what was read stand between the counts and an allocation.
  const claims = Object.keys(expected).filter(
    (name) => /^g[3-6]-/.test(name) && expected[name] === "gguf/count",
  );
  for (const name of claims) {
    const bytes = file(name);
    const slice = async (start: number, end: number) => {
      const filled = new Uint8Array(end - start);
      filled.set(bytes.subarray(start, end));
      return filled;
    };
    const before = process.memoryUsage().arrayBuffers;
    const source = { name, byteLength: 2 ** 40, slice };
    await openGguf(source, { limits: { ggufHeaderBytes: 1 << 20 } }).catch((error) => {
      if (!isIsqError(error)) throw error;
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024);
  }
});

async function survive(bytes: Uint8Array): Promise<"value" | "refused"> {
  try {
    await readAll(bytes, "hostile");
    return "value";
  } catch (error) {
    if (!isIsqError(error)) throw error;
    expect(error.details.file).toBe("hostile");
    return "refused";
  }
}

describe("hostile bytes", () => {
  const ok = cases
    .filter(([name, tag]) => tag === "ok" && name.endsWith(".gguf"))
    .map(([name]) => file(name));

  test("valid files cut at every byte", async () => {
    for (const bytes of ok) {
      for (let end = 0; end < bytes.length; end++) await survive(bytes.subarray(0, end));
    }
    const made = fc.sample(content, { numRuns: 20, seed: 31 }).filter(({ tensors }) => tensors.length > 0);
    for (const each of made) {
      const bytes = await writeContent(each);
      const { dataOffset } = await open(bytes);
      expect(await survive(bytes)).toBe("value");
      const cuts = [...Array(Math.min(dataOffset, 3000)).keys()];
      for (const end of cuts) {
        const outcome = await survive(bytes.subarray(0, end));
        if (end < dataOffset - 4096) expect(outcome, String(end)).toBe("refused");
      }
    }
  });

  test("valid files with bytes changed, taken out or put in", async () => {
    const edit = fc.record({ at: fc.nat(400), remove: fc.nat(2), insert: fc.uint8Array({ maxLength: 2 }) });
    const flip = fc.record({ at: fc.nat(400), bit: fc.nat(7) });
    const property = fc.asyncProperty(
      fc.oneof(content.map(writeContent), fc.constantFrom(...ok.map((bytes) => Promise.resolve(bytes)))),
      fc.array(edit, { maxLength: 3 }),
      fc.array(flip, { maxLength: 3 }),
      async (made, edits, flips) => {
        let bytes = [...(await made)];
        for (const { at, remove, insert } of edits) {
          bytes = [...bytes.slice(0, at), ...insert, ...bytes.slice(at + remove)];
        }
        for (const { at, bit } of flips) if (at < bytes.length) bytes[at] ^= 1 << bit;
        await survive(Uint8Array.from(bytes));
      },
    );
    await fc.assert(property, { numRuns: 2000, seed: 32 });
  });
});
