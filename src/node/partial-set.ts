/**
 * Several files that belong together, in one folder. They grow in a folder beside their place, each with its journal; when
 * all are whole, older files make way, the new ones are renamed in, and the last of them, which says what the others are,
 * comes last. An error puts everything back; killed at any moment, the next run goes on and ends with the same bytes.
 */

import * as nodeFiles from "node:fs/promises";
import { join } from "node:path";
import { IsqError } from "../errors.js";
import type { SaveFile } from "../save.js";
import { attempt, type Files, readOptional, statOf, syncFolder } from "./files.js";
import type { Fingerprint } from "./journal.js";
import { haveSameBytes } from "./layout-check.js";
import {
  checkInputs,
  checkSpace,
  existsError,
  openPartialFile,
  type PartialFile,
  type PartialFileOptions,
} from "./partial-file.js";

export interface SetFile {
  /** In the folder. */
  readonly name: string;
  readonly file: SaveFile;
}

export interface PartialSetOptions extends PartialFileOptions {
  /** Files that would count as parts of the set and are not: they make way as well. Called with 0, 1, … until there is none. */
  readonly stale?: readonly ((index: number) => string)[];
}

export interface PartialSet {
  /** Opens one of the files for writing; seal and close it before the next. */
  open(name: string): Promise<PartialFile>;
  /**
   * Puts all files, sealed before, in their places. `check` is called with the place of a file by its name. Throws
   * `output/exists`, `output/write`, and what `check` throws.
   */
  publish(check: (pathOf: (name: string) => string) => Promise<void>): Promise<void>;
}

/**
 * Opens a set, the marker last, or goes on with one that was begun. The folder is made if only it is missing. Throws
 * `output/exists` for a file that is there with other bytes, `output/input`, `output/resume`, `output/space`, `output/write`.
 *
 * @param staging Where the files grow: a folder of the set's own, on the same disk.
 */
export async function openPartialSet(
  folder: string,
  staging: string,
  set: readonly SetFile[],
  options: PartialSetOptions,
): Promise<PartialSet> {
  const { files = nodeFiles, restart = false, overwrite = false, inputs = [] } = options;
  const system = <Result>(doing: string, work: () => Promise<Result>) => attempt(staging, doing, work);
  if (restart) await system("remove it", () => files.rm(staging, { recursive: true, force: true }));
  const begun = await system("look at it", () => statOf(files, staging));
  let growing = 0;
  for (const [i, { name, file }] of set.entries()) {
    const path = join(folder, name);
    const { partial } = placesOf(staging, name);
    growing += (await system("look at it", () => statOf(files, partial)))?.blocks ?? 0;
    const there = await attempt(path, "look at it", () => statOf(files, path));
    if (!there) continue;
    if (!begun && i === set.length - 1 && !overwrite) throw existsError(path);
    const ours = begun && (await system("look at it", () => statOf(files, placesOf(staging, name).journal)));
    if (ours || (await isSame(files, path, there.size, file))) continue;
    await checkInputs(files, path, there, inputs);
    const mayBeSame = file.targets.size > 0 && there.size === file.byteLength;
    if (!overwrite && !mayBeSame) throw existsError(path);
  }
  if ((await system("look at the folder", () => statOf(files, folder))) === null) {
    await attempt(folder, "make the folder", () => files.mkdir(folder));
  }
  const byteLength = set.reduce((sum, { file }) => sum + file.byteLength, 0);
  await checkSpace(files, staging, byteLength - growing * STAT_BLOCK_BYTES);
  await system("make the folder", () => files.mkdir(staging, { recursive: true }));
  return {
    async open(name) {
      const { file } = set.find((one) => one.name === name)!;
      const fingerprint: Fingerprint = { ...options.fingerprint, file: name };
      // Whether an older file may be replaced is asked when the new one is whole.
      const own = { ...options, fingerprint, overwrite: true, restart: false, files, inputs: [] };
      return openPartialFile(join(folder, name), file, own, placesOf(staging, name));
    },
    publish: (check) => publish(folder, staging, set, { ...options, files, overwrite }, check),
  };
}

/** Unit of `blocks` in what stat says. */
const STAT_BLOCK_BYTES = 512;
const BACKUP = "replaced";

function placesOf(staging: string, name: string): { partial: string; journal: string } {
  return { partial: join(staging, name), journal: join(staging, `${name}.journal`) };
}

/** Whether a file is what would be written, as far as that is known beforehand. */
async function isSame(files: Files, path: string, size: number, layout: SaveFile): Promise<boolean> {
  if (layout.targets.size > 0 || size !== layout.byteLength) return false;
  const bytes = await attempt(path, "read it", () => readOptional(files, path));
  return layout.fixed.every(({ byteOffset, bytes: wanted }) => {
    const found = bytes?.subarray(byteOffset, byteOffset + wanted.byteLength);
    return found !== undefined && Buffer.compare(found, wanted) === 0;
  });
}

interface Move {
  readonly from: string;
  readonly to: string;
}

async function publish(
  folder: string,
  staging: string,
  set: readonly SetFile[],
  options: PartialSetOptions & { readonly files: Files; readonly overwrite: boolean },
  check: (pathOf: (name: string) => string) => Promise<void>,
): Promise<void> {
  const { files, overwrite, stale = [] } = options;
  const system = <Result>(doing: string, work: () => Promise<Result>) => attempt(staging, doing, work);
  const waiting: string[] = [];
  for (const { name } of set) {
    const { partial } = placesOf(staging, name);
    if (await system("look at it", () => statOf(files, partial))) waiting.push(name);
  }
  await check((name) => join(waiting.includes(name) ? staging : folder, name));
  const install: Move[] = [];
  const replace: Move[] = [];
  const backup = join(staging, BACKUP);
  for (const name of waiting) {
    const [from, to] = [join(staging, name), join(folder, name)];
    const there = await attempt(to, "look at it", () => statOf(files, to));
    if (there && (await attempt(to, "read it", () => haveSameBytes(files, from, to)))) {
      await system("remove it", () => files.rm(from));
      continue;
    }
    if (there && !overwrite) throw existsError(to);
    if (there) replace.unshift({ from: to, to: join(backup, name) }); // the marker goes first
    install.push({ from, to });
  }
  for (const nameOf of stale) {
    for (let i = 0; ; i++) {
      const path = join(folder, nameOf(i));
      if (!(await attempt(path, "look at it", () => statOf(files, path)))) break;
      if (!overwrite) throw existsError(path);
      replace.push({ from: path, to: join(backup, nameOf(i)) });
    }
  }
  if (replace.length > 0) await system("make the folder", () => files.mkdir(backup, { recursive: true }));
  await moveAll(files, staging, [...replace, ...install]);
  await system("sync the folder", () => syncFolder(files, join(folder, "any")));
  await system("remove it", () => files.rm(staging, { recursive: true, force: true }));
}

/** Renames one after the other; a failure takes back those before it. */
async function moveAll(files: Files, staging: string, moves: readonly Move[]): Promise<void> {
  const done: Move[] = [];
  try {
    for (const move of moves) {
      await files.rename(move.from, move.to);
      done.push(move);
    }
  } catch (cause) {
    const failed = moves[done.length].to;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const stuck: string[] = [];
    for (const { from, to } of done.reverse()) await files.rename(to, from).catch(() => stuck.push(to));
    const rest = stuck.length > 0 ? `; and these could not be put back: ${stuck.join(", ")}` : "";
    const message = `${failed}: cannot put it in its place: ${reason}${rest}`;
    throw new IsqError("output/write", message, { file: failed, value: reason, staging }, { cause });
  }
}
