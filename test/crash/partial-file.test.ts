/** A file is complete or not there, whatever call to the system fails or is the last one. */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { type Files, openPartialFile, type PartialFileOptions } from "../../src/node/partial-file.js";
import type { SaveFile } from "../../src/save.js";
import { type Fault, faultyFiles, makeFolder } from "./faulty-files.js";

const TENSORS = ["a", "b", "c", "d"];
const SIZE = 1000;
const header = new Uint8Array(100).fill(7);
const dataOf = (tensor: string) => new Uint8Array(SIZE).fill(tensor.charCodeAt(0));

/** A header and four tensors, one of them in two places. */
const layout: SaveFile = {
  format: "gguf",
  byteLength: 100 + 5 * SIZE,
  fixed: [{ byteOffset: 0, bytes: header }],
  targets: new Map(
    TENSORS.map((tensor, i) => [
      tensor,
      (tensor === "d" ? [3, 4] : [i]).map((place) => ({
        byteOffset: 100 + place * SIZE,
        byteLength: SIZE,
        rowGroup: 0,
        make: () => dataOf(tensor),
      })),
    ]),
  ),
};
const complete = Buffer.concat([header, ...["a", "b", "c", "d", "d"].map(dataOf)]);
const FINGERPRINT = { plan: "p", byteLength: layout.byteLength };

let path: string;
beforeEach(() => {
  path = join(makeFolder(), "out.gguf");
});
afterEach(() => rmSync(dirname(path), { recursive: true }));

/** Writes the file as saveModel does. Returns the tensors that had to be written. */
async function write(
  options: Partial<PartialFileOptions> = {},
  beforeCommit = async () => {},
): Promise<string[]> {
  const file = await openPartialFile(path, layout, {
    fingerprint: FINGERPRINT,
    flushBytes: 1500,
    ...options,
  });
  const written: string[] = [];
  try {
    for (const { byteOffset, bytes } of layout.fixed) await file.write(byteOffset, bytes);
    for (const [tensor, targets] of layout.targets) {
      if (file.has(tensor)) continue;
      written.push(tensor);
      for (const { byteOffset } of targets) await file.write(byteOffset, dataOf(tensor));
      await file.finish(tensor);
    }
    await beforeCommit();
    await file.commit(async () => {});
  } finally {
    await file.close();
  }
  return written;
}

const filesThere = () => readdirSync(join(path, "..")).sort();

test("a file is written, and nothing else stays", async () => {
  expect(await write()).toEqual(TENSORS);
  expect(readFileSync(path).equals(complete)).toBe(true);
  expect(filesThere()).toEqual(["out.gguf"]);
});

test("a file that is there is replaced only when asked for, and not one that is read", async () => {
  writeFileSync(path, "old");
  await expect(write()).rejects.toMatchObject({ tag: "output/exists" });
  await expect(write({ overwrite: true, inputs: [path] })).rejects.toMatchObject({ tag: "output/input" });
  expect(readFileSync(path, "utf8")).toBe("old");
  await write({ overwrite: true });
  expect(readFileSync(path).equals(complete)).toBe(true);
});

test("no room on the disk is said before anything is written", async () => {
  const small = { ...layout, byteLength: 2 ** 52 };
  const opened = openPartialFile(path, small, { fingerprint: FINGERPRINT });
  await expect(opened).rejects.toMatchObject({ tag: "output/space" });
  expect(filesThere()).toEqual([]);
});

test("a folder that is not there is named", async () => {
  const nowhere = join(dirname(path), "nowhere", "out.gguf");
  const opened = openPartialFile(nowhere, layout, { fingerprint: FINGERPRINT });
  await expect(opened).rejects.toMatchObject({ tag: "output/folder", details: { value: dirname(nowhere) } });
});

const callsOf = async (fault: Fault): Promise<number> => {
  const files = faultyFiles(Number.POSITIVE_INFINITY, fault);
  await write({ files });
  rmSync(path);
  return files.calls;
};

describe.each([false, true])("with an older file in its place: %s", (older) => {
  const OLD = Buffer.from("an older file");

  /** Fails at one call, checks what is there, goes on. */
  async function failAndResume(at: number, fault: Fault): Promise<void> {
    const overwrite = older;
    if (older) writeFileSync(path, OLD);
    const files: Files = faultyFiles(at, fault);
    const first = await write({ files, overwrite }).catch((error: unknown) => error);
    if (isIsqError(first)) expect(first.tag).toBe("output/write");
    else expect(first).not.toBeInstanceOf(Error);
    // Either the old state or the new file, byte for byte.
    if (existsSync(path)) {
      const now = readFileSync(path);
      expect(now.equals(complete) || (older && now.equals(OLD))).toBe(true);
    } else expect(older).toBe(false);
    if (isIsqError(first)) await write({ overwrite });
    expect(readFileSync(path).equals(complete)).toBe(true);
    expect(filesThere()).toEqual(["out.gguf"]);
    rmSync(path);
  }

  test.each(["error", "full", "killed", "torn", "short"] as const)("%s at every call", async (fault) => {
    const calls = await callsOf(fault);
    expect(calls).toBeGreaterThan(30);
    for (let at = 0; at < calls + 2; at++) await failAndResume(at, fault);
  });
});

test("finished tensors are not written again, damaged ones are", async () => {
  const calls = await callsOf("killed");
  const redone = new Set<number>();
  for (let at = 0; at < calls; at++) {
    const failed = await write({ files: faultyFiles(at, "killed") }).then(
      () => false,
      () => true,
    );
    if (failed) redone.add((await write()).length);
    rmSync(path);
  }
  expect([...redone].sort()).toEqual([0, 2, 4]); // two tensors make a flush
  await write({ files: faultyFiles(calls - 14, "killed") }).catch(() => {});
  const partial = `${path}.partial`;
  const bytes = readFileSync(partial);
  bytes[150] ^= 1;
  writeFileSync(partial, bytes);
  expect(await write()).toContain("a");
  expect(readFileSync(path).equals(complete)).toBe(true);
});

test.each([
  ["a tensor", 150],
  ["the header", 50],
])(
  "a disk that changes %s after it was written: nothing appears, and the next run repairs it",
  async (_, at) => {
    const damage = async () => {
      const bytes = readFileSync(`${path}.partial`);
      bytes[at] ^= 1;
      writeFileSync(`${path}.partial`, bytes);
    };
    await expect(write({}, damage)).rejects.toMatchObject({ tag: "output/verify" });
    expect(existsSync(path)).toBe(false);
    expect(await write()).toEqual(at < header.length ? [] : ["a"]);
    expect(readFileSync(path).equals(complete)).toBe(true);
    expect(filesThere()).toEqual(["out.gguf"]);
  },
);

test("another file that was begun under the name is refused, naming what differs", async () => {
  const calls = await callsOf("killed");
  await write({ files: faultyFiles(calls - 14, "killed") }).catch(() => {});
  const other = { ...FINGERPRINT, plan: "q" };
  await expect(write({ fingerprint: other })).rejects.toMatchObject({
    tag: "output/resume",
    details: { field: "plan", value: "p", limit: "q" },
  });
  expect(await write({ fingerprint: other, restart: true })).toEqual(TENSORS);
  expect(filesThere()).toEqual(["out.gguf"]);
});
