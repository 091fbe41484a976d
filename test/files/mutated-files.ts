/**
 * Mutated files: valid and malformed files of a format with bytes changed, by seed. Whatever comes out, a reader has to
 * return a value or a tagged error that names the file, in bounded time. Free of the test runner: scripts/mutated-files.mjs
 * runs a million per format.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { IsqError, isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import type { Directory } from "../../src/files/directory.js";
import { openGguf } from "../../src/files/gguf.js";
import { meansOf, openImatrix } from "../../src/files/imatrix.js";
import { openSafetensors } from "../../src/files/safetensors.js";
import { fromBytes } from "../../src/files/source.js";
import { parseTopology } from "../../src/files/topology.js";
import { type Random, randomFrom } from "../../src/oracle/random.js";
import { openUqffCheckpoint } from "../../src/uqff-checkpoint.js";
import { processorSeconds } from "../suites/processor-time.js";

/** Files of one model by their names; most formats have one. */
type Files = Readonly<Record<string, Uint8Array>>;

export interface Outcome {
  /** `value`, or the error's tag. */
  readonly result: string;
  /** What must not be: another error, one that names no file, or too much time. */
  readonly failure?: string;
  readonly seconds: number;
}

const SECONDS_PER_FILE = 5;
const SUSPECT_SECONDS = 0.05;
const LARGEST_SEED_BYTES = 20_000;
/** How many mutants are made of valid files. */
const VALID_SHARE = 0.85;
const CATALOGUE = "test/malformed";
const NAME = "mutated";

const READERS: Readonly<Record<string, (files: Files) => unknown>> = {
  gguf: async (files) => {
    const file = await openGguf(sourceOf(files));
    for (const name of file.tensors.keys()) await file.read(name);
  },
  safetensors: async (files) => {
    const names = Object.keys(files);
    const file =
      names.length > 1 ? await openCheckpoint(toFolder(files)) : await openSafetensors(sourceOf(files));
    for (const name of file.tensors.keys()) await file.read(name);
  },
  uqff: async (files) => {
    const checkpoint = await openUqffCheckpoint(
      toFolder(files),
      Object.keys(files).find((n) => n.endsWith(".uqff")) ?? "",
    );
    for (const name of checkpoint.tensors.keys()) {
      await checkpoint.read(name);
      await checkpoint.readSides?.(name);
    }
  },
  imatrix: async (files) => {
    const { entries } = await openImatrix(sourceOf(files));
    for (const entry of entries.values()) meansOf(entry);
  },
  topology: (files) => parseTopology(new TextDecoder().decode(Object.values(files)[0]), NAME),
};

export const FORMATS = Object.keys(READERS);

const sourceOf = (files: Files) => fromBytes(Object.values(files)[0], NAME);

function toFolder(files: Files): Directory {
  return {
    name: NAME,
    has: async (name) => Object.hasOwn(files, name),
    async open(name) {
      if (Object.hasOwn(files, name)) return fromBytes(files[name], `${NAME}/${name}`);
      throw new IsqError("source/open", `there is no ${name}`, { file: `${NAME}/${name}` });
    },
  };
}

/** What mutants are made of. */
export interface Seeds {
  readonly valid: readonly Files[];
  readonly malformed: readonly Files[];
}

/** The whole catalogue of a format. */
export function seedsOf(format: string): Seeds {
  const folder = `${CATALOGUE}/${format}`;
  const expected: Record<string, string> = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8"));
  const seeds = { valid: [] as Files[], malformed: [] as Files[] };
  for (const [name, tag] of Object.entries(expected)) {
    const path = `${folder}/${name}`;
    const isFolder = statSync(path).isDirectory();
    const paths = isFolder ? readdirSync(path).map((file) => [file, join(path, file)]) : [[name, path]];
    const files = Object.fromEntries(paths.map(([file, at]) => [file, new Uint8Array(readFileSync(at))]));
    const isLarge = Object.values(files).some(({ length }) => length > LARGEST_SEED_BYTES);
    if (isLarge || (format === "gguf" && isFolder)) continue; // shards of GGUF are read one by one here
    seeds[tag === "ok" ? "valid" : "malformed"].push(files);
  }
  return seeds;
}

/** What lies at the edges of lengths and counts, and characters that JSON and YAML care about. */
const WORDS = [
  0n,
  1n,
  31n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 32n,
  1n << 53n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const CHARACTERS = new TextEncoder().encode("{}[]\":,.\\/-?*&!|>%@`#'0189eE+ntfx \t\n\r\0\x7f\xff");

type Edit = (random: Random, bytes: number[], at: number, others: readonly Uint8Array[]) => void;

const EDITS: readonly Edit[] = [
  (random, bytes, at) => {
    bytes[at] ^= 1 << random.integer(0, 7);
  },
  (random, bytes, at) => {
    bytes[at] = random.integer(0, 255);
  },
  (random, bytes, at) => {
    bytes[at] = random.pick([...CHARACTERS]);
  },
  (random, bytes, at) => bytes.splice(at, random.integer(1, 9)),
  (random, bytes, at) => bytes.splice(at, 0, random.pick([...CHARACTERS]), random.integer(0, 255)),
  (random, bytes, at) => {
    const [word, width] = [random.pick(WORDS), random.pick([2, 4, 8])];
    for (let i = 0; i < width && at + i < bytes.length; i++)
      bytes[at + i] = Number((word >> BigInt(8 * i)) & 255n);
  },
  (random, bytes, at) =>
    bytes.splice(random.integer(0, bytes.length), 0, ...bytes.slice(at, at + random.integer(1, 64))),
  (random, bytes, at, others) => {
    const other = random.pick(others);
    const from = random.integer(0, other.length);
    bytes.splice(at, random.integer(0, 32), ...other.subarray(from, from + random.integer(1, 64)));
  },
  (_random, bytes, at) => bytes.splice(at),
];

/** One to six edits, most of them where headers are. */
function mutate(random: Random, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  const changed = [...bytes];
  for (let edits = random.pick([1, 1, 1, 2, 3, 6]); edits > 0; edits--) {
    const reach = random.unit() < 0.7 ? Math.min(changed.length, 400) : changed.length;
    random.pick(EDITS)(random, changed, random.integer(0, Math.max(0, reach - 1)), others);
  }
  return Uint8Array.from(changed);
}

/** The files of one number: the same in every run. */
export function makeCase(format: string, { valid, malformed }: Seeds, index: number): Files {
  const random = randomFrom(randomFrom(index * FORMATS.length + FORMATS.indexOf(format)).word());
  const files = { ...random.pick(random.unit() < VALID_SHARE ? valid : malformed) };
  const names = Object.keys(files);
  const changed = random.pick(names);
  const others = names.map((name) => files[name]).concat(Object.values(random.pick(valid)));
  files[changed] = mutate(random, files[changed], others);
  return files;
}

/** Reads files and judges how that ended. */
export async function judge(format: string, files: Files): Promise<Outcome> {
  const started = performance.now();
  const end = await endOf(format, files);
  const passed = (performance.now() - started) / 1000;
  // Asking for processor time takes longer than most files do: only where the clock says that it may matter.
  const seconds = passed < SUSPECT_SECONDS ? passed : await readingSeconds(format, files);
  const late = seconds > SECONDS_PER_FILE ? `took ${seconds.toFixed(1)} s` : undefined;
  const failure = end.failure ?? late;
  return { result: end.result, seconds, ...(failure && { failure }) };
}

async function readingSeconds(format: string, files: Files): Promise<number> {
  const started = processorSeconds();
  await endOf(format, files);
  return processorSeconds() - started;
}

async function endOf(format: string, files: Files): Promise<Omit<Outcome, "seconds">> {
  try {
    await READERS[format](files);
    return { result: "value" };
  } catch (error) {
    if (!isIsqError(error))
      return { result: "untagged", failure: String((error as Error)?.stack ?? error).slice(0, 600) };
    const { file } = error.details;
    if (typeof file === "string" && file.startsWith(NAME)) return { result: error.tag };
    return { result: error.tag, failure: `${error.tag} names the file ${file}: ${error.message}` };
  }
}
