/** The catalogue of malformed UQFF sets, valid ones with bytes missing or changed, and how files of a set are found. */

import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type IsqError, isIsqError } from "../../src/errors.js";
import { fromBytes } from "../../src/files/source.js";
import { openUqff } from "../../src/files/uqff.js";
import { openUqffCheckpoint } from "../../src/uqff-checkpoint.js";
import { toDirectory } from "../fixtures/architecture.js";

const FOLDER = "test/malformed/uqff";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));
const cases = Object.entries(expected);

type Files = Record<string, Uint8Array>;
const filesOf = (name: string): Files =>
  Object.fromEntries(
    readdirSync(`${FOLDER}/${name}`).map((file) => [
      file,
      new Uint8Array(readFileSync(`${FOLDER}/${name}/${file}`)),
    ]),
  );

/** Opens a set and reads everything. Returns the names and types. */
async function readSet(files: Files, name = "set"): Promise<Map<string, string>> {
  const checkpoint = await openUqffCheckpoint(toDirectory(files, name), "m-0.uqff");
  for (const [tensor, { byteLength }] of checkpoint.tensors) {
    expect((await checkpoint.read(tensor)).byteLength).toBe(byteLength);
    await checkpoint.readSides?.(tensor);
  }
  return new Map([...checkpoint.tensors].map(([tensor, { dtype }]) => [tensor, dtype]));
}

describe("the malformed catalogue", () => {
  test.each(cases)("%s: %s", async (name, tag) => {
    const reading = readSet(filesOf(name), name);
    if (tag === "ok") {
      expect((await reading).size).toBeGreaterThan(0);
      return;
    }
    const error = await reading.then(
      () => null,
      (cause: IsqError) => cause,
    );
    expect(error).toMatchObject({ name: "IsqError", tag });
    expect(error?.details.file).toContain(name);
  });

  test("all kinds are there", () => {
    expect([...new Set(cases.map(([name]) => name.slice(0, 2)))]).toEqual([
      "u1",
      "u2",
      "u3",
      "u4",
      "u5",
      "u6",
    ]);
  });

  test("what is read has its names and types", async () => {
    const weight = "model.layers.0.self_attn.q_proj.weight";
    expect((await readSet(filesOf("u2-hqq"))).get(weight)).toBe("HQQ4");
    expect((await readSet(filesOf("u2-hqq-3-bits"))).get(weight)).toBe("hqq3");
    expect((await readSet(filesOf("u2-afq"))).get(weight)).toBe("afq4");
    expect((await readSet(filesOf("u2-fp8"))).get(weight)).toBe("FP8");
    expect((await readSet(filesOf("u2-plain"))).get(weight)).toBe("BF16");
    expect([...(await readSet(filesOf("u2-proto"))).keys()]).toContain("__proto__.weight");
    expect(await readSet(filesOf("u6-bias"))).toEqual(
      new Map([
        ["0", "Q8_0"],
        ["0.bias", "F32"],
        ["model.norm.weight", "F32"],
        ["model.final_layernorm.weight", "F32"],
      ]),
    );
    const stacked = await readSet(filesOf("u4-stacked"));
    expect([...stacked.keys()].slice(0, 2)).toEqual([
      "model.layers.0.mlp.experts.0.up_proj.weight",
      "model.layers.0.mlp.experts.1.up_proj.weight",
    ]);
  });
});

/** A value or a tagged error that names a file of the set. */
async function survive(files: Files): Promise<"value" | "refused"> {
  try {
    await readSet(files);
    return "value";
  } catch (error) {
    if (!isIsqError(error)) throw error;
    expect(error.details.file).toContain("set");
    return "refused";
  }
}

describe("hostile bytes", () => {
  const good = cases.filter(([, tag]) => tag === "ok").map(([name]) => filesOf(name));

  test("every file of valid sets, cut at every byte, is refused", async () => {
    const seen = new Set<string>();
    for (const files of good) {
      for (const [file, bytes] of Object.entries(files)) {
        const content = Buffer.from(bytes).toString("latin1");
        if (file === "uqff_report.json" || seen.has(content)) continue;
        seen.add(content);
        for (let end = 0; end < bytes.length; end++) {
          expect(await survive({ ...files, [file]: bytes.subarray(0, end) }), `${file} ${end}`).toBe(
            "refused",
          );
        }
      }
    }
    expect(seen.size).toBeGreaterThan(15);
  });

  test("bytes changed, taken out or put in", async () => {
    const edit = fc.record({ at: fc.nat(2000), remove: fc.nat(2), insert: fc.uint8Array({ maxLength: 2 }) });
    const flip = fc.record({ at: fc.nat(2000), bit: fc.nat(7) });
    const property = fc.asyncProperty(
      fc.constantFrom(...good),
      fc.nat(3),
      fc.array(edit, { maxLength: 2 }),
      fc.array(flip, { maxLength: 3 }),
      async (files, which, edits, flips) => {
        const names = Object.keys(files);
        const name = names[which % names.length];
        let bytes = [...files[name]];
        for (const { at, remove, insert } of edits) {
          bytes = [...bytes.slice(0, at), ...insert, ...bytes.slice(at + remove)];
        }
        for (const { at, bit } of flips) bytes[at % bytes.length] ^= 1 << bit;
        await survive({ ...files, [name]: Uint8Array.from(bytes) });
      },
    );
    await fc.assert(property, { numRuns: 1500, seed: 41 });
  });

  test("lengths of gigabytes take no memory", async () => {
    const bytes = filesOf("u6-hqq-codes-past-end")["m-0.uqff"];
    const before = process.memoryUsage().arrayBuffers;
    await expect(openUqff([fromBytes(bytes, "m")])).rejects.toMatchObject({ tag: "uqff/truncated" });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });
});

describe("naming a set", () => {
  const { "m-0.uqff": shard, ...rest } = filesOf("u1-good");
  const [first, second] = [filesOf("u1-in-the-second")["m-0.uqff"], filesOf("u1-in-the-second")["m-1.uqff"]];
  const open = async (files: Files, selection: string) => {
    const { uqff } = await openUqffCheckpoint(toDirectory({ ...rest, ...files }, "set"), selection);
    return uqff.shards.map(({ source }) => source.name.replace("set/", ""));
  };

  test("shards follow the first", async () => {
    expect(await open({ "a-0.uqff": first, "a-1.uqff": second, "a-3.uqff": second }, "a-0.uqff")).toEqual([
      "a-0.uqff",
      "a-1.uqff",
    ]);
    expect(await open({ "a-0.uqff": first, "a-1.uqff": second }, "a-1.uqff")).toEqual([
      "a-0.uqff",
      "a-1.uqff",
    ]);
  });

  test("one file without a number, and a list", async () => {
    expect(await open({ "model.uqff": shard, "model-0.uqff": shard }, "model.uqff")).toEqual(["model.uqff"]);
    expect(await open({ "x.uqff": first, "y.uqff": second }, "x.uqff; y.uqff")).toEqual(["x.uqff", "y.uqff"]);
  });

  test("the name that a set was written under", async () => {
    const set = { "a-0.uqff": first, "a-1.uqff": second };
    expect(await open(set, "a")).toEqual(["a-0.uqff", "a-1.uqff"]);
    expect(await open(set, "a.uqff")).toEqual(["a-0.uqff", "a-1.uqff"]);
    await expect(open(set, "a-2.uqff")).rejects.toMatchObject({ tag: "source/open" });
  });

  test("types and bits", async () => {
    expect(await open({ "q4k-0.uqff": shard }, "Q4_K")).toEqual(["q4k-0.uqff"]);
    expect(await open({ "q8_0-0.uqff": shard }, "8")).toEqual(["q8_0-0.uqff"]);
    const claim = { quant: "q4k", shards: ["tiny-0.uqff"], layers: 1, actual_counts: { q8_0: 1 } };
    const report = new TextEncoder().encode(JSON.stringify({ schema: 1, outputs: [claim] }));
    expect(await open({ "tiny-0.uqff": shard, "uqff_report.json": report }, "q4k")).toEqual(["tiny-0.uqff"]);
  });

  test("what is not there", async () => {
    await expect(open({}, "q4k")).rejects.toMatchObject({
      tag: "source/open",
      details: { value: "q4k-0.uqff" },
    });
    await expect(open({}, "none.uqff")).rejects.toMatchObject({ tag: "source/open" });
    await expect(open({}, "x.uqff;y.uqff")).rejects.toMatchObject({ tag: "source/open" });
    await expect(open({}, "q9")).rejects.toMatchObject({ tag: "type/unknown" });
  });
});
