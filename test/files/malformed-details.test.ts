/**
 * What errors say of every file of the malformed catalogues, beside their tags: field, value, limit, tensor, offset. They are
 * kept in test/malformed/details.json, which ISQ_WRITE_DETAILS=1 writes anew; look at what changed.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { openGguf } from "../../src/files/gguf.js";
import { openGgufFiles } from "../../src/files/gguf-split.js";
import { openImatrix } from "../../src/files/imatrix.js";
import { openSafetensors } from "../../src/files/safetensors.js";
import { fromBytes } from "../../src/files/source.js";
import { parseTopology } from "../../src/files/topology.js";
import { openUqffCheckpoint } from "../../src/uqff-checkpoint.js";
import { toDirectory } from "../fixtures/architecture.js";

const FOLDER = "test/malformed";
const KEPT = `${FOLDER}/details.json`;
const WRITES = process.env.ISQ_WRITE_DETAILS === "1";

const bytesOf = (path: string) => new Uint8Array(readFileSync(path));
const sourceOf = (path: string) => fromBytes(bytesOf(path), path);
const folderOf = (path: string) =>
  toDirectory(Object.fromEntries(readdirSync(path).map((file) => [file, bytesOf(`${path}/${file}`)])), path);

/** How a file of each catalogue is read, or a folder, whose name ends in a slash. */
const READERS: Record<string, (path: string) => unknown> = {
  async gguf(path) {
    if (path.endsWith("/")) return openGgufFiles(folderOf(path), "m-00001-of-00002.gguf");
    const { tensors, read } = await openGguf(sourceOf(path));
    for (const name of tensors.keys()) await read(name);
  },
  safetensors: (path) =>
    path.endsWith("/") ? openCheckpoint(folderOf(path)) : openSafetensors(sourceOf(path)),
  async uqff(path) {
    const { tensors, read, readSides } = await openUqffCheckpoint(folderOf(path), "m-0.uqff");
    for (const name of tensors.keys()) {
      await read(name);
      await readSides?.(name);
    }
  },
  imatrix: (path) => openImatrix(sourceOf(path)),
  topology: (path) => parseTopology(new TextDecoder().decode(bytesOf(path)), path),
};

/** Values that JSON lacks as text, long ones cut. */
const plain = (details: object) =>
  JSON.parse(
    JSON.stringify(details, (_key, value) => {
      if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)))
        return `${value}`;
      return typeof value === "string" && value.length > 200 ? `${value.slice(0, 200)}…` : value;
    }),
  );

async function detailsOf(read: () => unknown): Promise<object | null> {
  try {
    await read();
    return null;
  } catch (error) {
    if (!isIsqError(error)) throw error;
    return plain({ tag: error.tag, ...error.details });
  }
}

const kept: Record<string, Record<string, object>> = WRITES ? {} : JSON.parse(readFileSync(KEPT, "utf8"));

describe.each(Object.entries(READERS))("%s", (format, read) => {
  const expected: Record<string, string> = JSON.parse(
    readFileSync(`${FOLDER}/${format}/expected.json`, "utf8"),
  );
  const names = Object.keys(expected).filter((name) => expected[name] !== "ok");

  test.each(names)("%s", async (name) => {
    const path = `${FOLDER}/${format}/${name}`;
    const details = await detailsOf(() => read(path));
    if (WRITES) kept[format] = { ...kept[format], ...(details && { [name]: details }) };
    else expect(details).toEqual(kept[format][name] ?? null);
  });

  if (WRITES) {
    test("are written", () => writeFileSync(KEPT, `${JSON.stringify(kept, null, 1)}\n`));
  }
});
