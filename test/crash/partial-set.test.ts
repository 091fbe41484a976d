/** A set of files is complete or not there, whatever call to the system fails or is the last one. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openPartialSet, type PartialSetOptions, type SetFile } from "../../src/node/partial-set.js";
import { type Fault, faultyFiles, makeFolder } from "./faulty-files.js";

const SIZE = 600;
const header = new Uint8Array(40).fill(7);
const dataOf = (tensor: string) => new Uint8Array(SIZE).fill(tensor.charCodeAt(0));
const fixed = (name: string, text: string): SetFile => {
  const bytes = new TextEncoder().encode(text);
  const parts = [{ byteOffset: 0, bytes }];
  return { name, file: { format: "bytes", byteLength: bytes.length, fixed: parts, targets: new Map() } };
};
const shard = (name: string, tensors: readonly string[]): SetFile => {
  const targets = tensors.map((tensor, i) => {
    const place = { byteOffset: 40 + i * SIZE, byteLength: SIZE, rowGroup: 0, make: () => dataOf(tensor) };
    return [tensor, [place]] as const;
  });
  const parts = [{ byteOffset: 0, bytes: header }];
  const byteLength = 40 + tensors.length * SIZE;
  return { name, file: { format: "uqff", byteLength, fixed: parts, targets: new Map(targets) } };
};
/** Two shards, a small file, and the marker last. */
const SET = [
  shard("m-0.uqff", ["a", "b"]),
  shard("m-1.uqff", ["c"]),
  fixed("config.json", "{}"),
  fixed("report", "R"),
];
const complete = new Map(
  SET.map(({ name, file }) => {
    const parts = [...file.targets.keys()].map(dataOf);
    return [name, Buffer.concat([...file.fixed.map(({ bytes }) => bytes), ...parts])];
  }),
);
/** What an earlier run with other settings left, a shard more than now. */
const OLD: Readonly<Record<string, string>> = {
  "m-0.uqff": "older shard",
  "m-1.uqff": "older shard too",
  "m-2.uqff": "a third",
  "config.json": "{}",
  report: "old report",
};

let folder: string;
beforeEach(() => {
  folder = join(makeFolder(), "out");
});
afterEach(() => rmSync(dirname(folder), { recursive: true }));

async function write(options: Partial<PartialSetOptions> = {}): Promise<string[]> {
  const set = await openPartialSet(folder, join(folder, "m.uqff.partial"), SET, {
    fingerprint: { plan: "p" },
    flushBytes: 700,
    stale: [(i) => `m-${2 + i}.uqff`],
    ...options,
  });
  const written: string[] = [];
  for (const { name, file } of SET) {
    const part = await set.open(name);
    try {
      for (const { byteOffset, bytes } of file.fixed) await part.write(byteOffset, bytes);
      for (const [tensor, [{ byteOffset }]] of file.targets) {
        if (part.has(tensor)) continue;
        written.push(tensor);
        await part.write(byteOffset, dataOf(tensor));
        await part.finish(tensor);
      }
      await part.seal(async () => {});
    } finally {
      await part.close();
    }
  }
  await set.publish(async (pathOf) => {
    for (const { name } of SET) expect(readFileSync(pathOf(name)).equals(complete.get(name)!)).toBe(true);
  });
  return written;
}

function writeOld(): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(OLD)) writeFileSync(join(folder, name), text);
}

function expectComplete(): void {
  expect(readdirSync(folder).sort()).toEqual([...complete.keys()].sort());
  for (const [name, bytes] of complete)
    expect(readFileSync(join(folder, name)).equals(bytes), name).toBe(true);
}

test("a set is written into a new folder, and nothing else stays", async () => {
  expect(await write()).toEqual(["a", "b", "c"]);
  expectComplete();
});

test("files that are there are replaced only when asked for; those with the same bytes may stay", async () => {
  writeOld();
  await expect(write()).rejects.toMatchObject({ tag: "output/exists" });
  expect(readFileSync(join(folder, "report"), "utf8")).toBe("old report");
  await write({ overwrite: true });
  expectComplete();
  await expect(write()).rejects.toMatchObject({
    tag: "output/exists",
    details: { file: join(folder, "report") },
  });
  rmSync(join(folder, "report"));
  await write(); // all others are as they would be written
  expectComplete();
  rmSync(join(folder, "report"));
  writeFileSync(join(folder, "config.json"), "[]");
  await expect(write()).rejects.toMatchObject({ details: { file: join(folder, "config.json") } });
});

test("a stale shard makes way, or stops everything", async () => {
  mkdirSync(folder);
  writeFileSync(join(folder, "m-2.uqff"), "stale");
  await expect(write()).rejects.toMatchObject({ tag: "output/exists" });
  await write({ overwrite: true });
  expectComplete();
});

test("a file that is read is not replaced, another set under the name not continued", async () => {
  writeOld();
  const inputs = [join(folder, "m-0.uqff")];
  await expect(write({ overwrite: true, inputs })).rejects.toMatchObject({ tag: "output/input" });
  rmSync(folder, { recursive: true });
  await write({ files: faultyFiles(60, "killed") }).catch(() => {});
  await expect(write({ fingerprint: { plan: "q" } })).rejects.toMatchObject({ tag: "output/resume" });
  await write({ fingerprint: { plan: "q" }, restart: true });
  expectComplete();
});

const callsOf = async (fault: Fault, older: boolean): Promise<number> => {
  const files = faultyFiles(Number.POSITIVE_INFINITY, fault);
  if (older) writeOld();
  await write({ files, overwrite: older });
  rmSync(folder, { recursive: true });
  return files.calls;
};

/** The folder without what grows in it. */
const shown = () =>
  existsSync(folder) ? readdirSync(folder).filter((name) => !name.endsWith(".partial")) : [];

describe.each([false, true])("with an older set in its place: %s", (older) => {
  test.each(["error", "full", "killed", "torn", "short"] as const)("%s at every call", async (fault) => {
    const calls = await callsOf(fault, older);
    expect(calls).toBeGreaterThan(80);
    for (let at = 0; at < calls + 1; at++) {
      if (older) writeOld();
      const failed = await write({ files: faultyFiles(at, fault), overwrite: older }).then(
        () => null,
        (error: unknown) => error,
      );
      if (failed !== null) expect(isIsqError(failed) && failed.tag).toBe("output/write");
      for (const name of shown()) {
        const now = readFileSync(join(folder, name));
        const isNew = complete.get(name)?.equals(now) ?? false;
        expect(isNew || (older && now.equals(Buffer.from(OLD[name]))), `${at} ${name}`).toBe(true);
      }
      const names = shown().sort();
      const [ours, theirs] = [[...complete.keys()].sort(), older ? Object.keys(OLD).sort() : []];
      // Where there is a marker, there is all that it speaks of; an error leaves one of the two sets, and all of it.
      if (fault === "error" || names.includes("report"))
        expect([ours, theirs], String(at)).toContainEqual(names);
      if (failed !== null) await write({ overwrite: older }).catch(ifWhole);
      expectComplete();
      rmSync(folder, { recursive: true });
    }
  });
});

/** The failed call may have been one behind the end. */
function ifWhole(error: unknown): void {
  if (!isIsqError(error, "output/exists")) throw error;
}
