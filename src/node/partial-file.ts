/**
 * A file that is either complete or not there. It grows as `FILE.partial` beside its place, with a journal of what is on disk;
 * once everything is written, on disk and read back, it is renamed. Killed at any moment, the next run goes on from the
 * journal and ends with the same bytes.
 */

import type { Stats } from "node:fs";
import * as nodeFiles from "node:fs/promises";
import { dirname } from "node:path";
import { IsqError } from "../errors.js";
import type { SaveFile, SaveSink } from "../save.js";
import {
  attempt,
  closeAll,
  type Files,
  type Handle,
  isSameFile,
  readOptional,
  statOf,
  syncFolder,
  writeAll,
} from "./files.js";
import {
  checkFingerprint,
  type Fingerprint,
  formatJournalEntry,
  formatJournalHead,
  type JournalEntry,
  parseJournal,
} from "./journal.js";
import { hashTargets, isComplete } from "./layout-check.js";

export type { Files } from "./files.js";

export interface PartialFileOptions {
  /** What makes runs write the same file. */
  readonly fingerprint: Fingerprint;
  /** Files that are read meanwhile, and that the file must not replace. */
  readonly inputs?: readonly string[];
  /** Replace a file that is there. */
  readonly overwrite?: boolean;
  /** Forget what an earlier run has written. */
  readonly restart?: boolean;
  /** Written bytes that may not be on disk before the next journal entries: what a power cut costs. 64 MB when absent. */
  readonly flushBytes?: number;
  readonly files?: Files;
}

/** Where the file grows, and its journal; `FILE.partial` and `FILE.partial.journal` when absent. */
export interface PartialPlaces {
  readonly partial: string;
  readonly journal: string;
}

export interface PartialFile extends SaveSink {
  has(tensor: string): boolean;
  finish(tensor: string): Promise<void>;
  /**
   * Ends the writing: everything to disk, hashes compared, `check` called with the path of the partial file. Throws
   * `output/write`, `output/verify`, and what `check` throws.
   */
  seal(check: (path: string) => Promise<void>): Promise<void>;
  /** Seals it and puts it in its place: renamed, the folder to disk, the journal removed. Throws as `seal`. */
  commit(check: (path: string) => Promise<void>): Promise<void>;
  /** Closes it and leaves it for the next run. */
  close(): Promise<void>;
}

const FLUSH_BYTES = 64 * 2 ** 20;
/** Unit of `blocks` in what stat says. */
const STAT_BLOCK_BYTES = 512;

/**
 * Opens a file for writing, or goes on with one that was begun. Throws `output/exists` when the file is there,
 * `output/resume` when another was begun under its name, `output/space`, `output/write`.
 */
export async function openPartialFile(
  path: string,
  layout: SaveFile,
  options: PartialFileOptions,
  places: PartialPlaces = { partial: `${path}.partial`, journal: `${path}.partial.journal` },
): Promise<PartialFile> {
  const { fingerprint, inputs = [], overwrite = false, restart = false, files = nodeFiles } = options;
  const { partial, journal } = places;
  const system = <Result>(doing: string, work: () => Promise<Result>) => attempt(path, doing, work);
  const destination = await system("look at it", () => statOf(files, path));
  if (destination) await checkInputs(files, path, destination, inputs);
  const begun = await system("look at the partial file", () => statOf(files, partial));
  const lines = await system("read the journal", () => readOptional(files, journal));
  const known = lines === null || restart ? null : parseJournal(lines);
  if (known) checkFingerprint(partial, known.fingerprint, fingerprint);
  if (known && !begun && destination?.size === layout.byteLength) {
    // Renamed, and killed before the journal was removed.
    const complete = await system("read it", () => isComplete(files, path, layout, known.entries));
    if (complete) return finishedFile(path, journal, layout, files);
  }
  if (destination && !overwrite) throw existsError(path);
  await checkSpace(files, path, layout.byteLength - (begun?.blocks ?? 0) * STAT_BLOCK_BYTES);
  const opened: Handle[] = [];
  const open = async (file: string, flags: string) => {
    opened.push(await files.open(file, flags));
    return opened[opened.length - 1];
  };
  try {
    return await system("begin", async () => {
      // The journal comes first and lives longer: without one, a partial file counts as empty.
      const resumed = begun !== null && known !== null;
      const log = await open(journal, resumed ? "r+" : "w");
      const head = new TextEncoder().encode(formatJournalHead(fingerprint));
      if (resumed) await log.truncate(known.byteLength);
      else await writeAll(log, head, 0);
      const data = await open(partial, resumed ? "r+" : "w+");
      await data.truncate(layout.byteLength);
      const entries = await keepIntact(data, layout, resumed ? known.entries : []);
      const logBytes = resumed ? known.byteLength : head.byteLength;
      const { flushBytes = FLUSH_BYTES } = options;
      const state = { data, log, logBytes, entries, opened, partial, journal, flushBytes };
      return createPartialFile(path, layout, state, files);
    });
  } catch (error) {
    await closeAll(opened);
    throw error;
  }
}

/** The refusal to replace a file. */
export function existsError(path: string): IsqError {
  const message = `${path} is there already; choose another name or replace it (--force)`;
  return new IsqError("output/exists", message, { file: path, field: "output", value: path });
}

/** The entries whose bytes are as they were: a power cut can lose what the journal says. */
async function keepIntact(
  data: Handle,
  layout: SaveFile,
  entries: readonly JournalEntry[],
): Promise<Map<string, JournalEntry>> {
  const intact = new Map<string, JournalEntry>();
  for (const entry of entries) {
    const targets = layout.targets.get(entry.tensor);
    if (targets && (await hashTargets(data, targets)) === entry.sha256) intact.set(entry.tensor, entry);
  }
  return intact;
}

interface State {
  readonly data: Handle;
  readonly log: Handle;
  /** Where the next journal line goes. */
  logBytes: number;
  readonly entries: Map<string, JournalEntry>;
  readonly opened: Handle[];
  readonly partial: string;
  readonly journal: string;
  readonly flushBytes: number;
}

function createPartialFile(path: string, layout: SaveFile, state: State, files: Files): PartialFile {
  const { data, log, entries, partial, journal } = state;
  const system = <Result>(doing: string, work: () => Promise<Result>) => attempt(path, doing, work);
  let waiting: JournalEntry[] = [];
  let unflushed = 0;
  /** Puts finished tensors to disk, and then says so. */
  const flush = async () => {
    await data.datasync();
    const lines = new TextEncoder().encode(waiting.map(formatJournalEntry).join(""));
    await writeAll(log, lines, state.logBytes);
    await log.datasync();
    state.logBytes += lines.byteLength;
    for (const entry of waiting) entries.set(entry.tensor, entry);
    waiting = [];
    unflushed = 0;
  };
  const seal = async (check: (path: string) => Promise<void>) => {
    await system("write", async () => {
      if (waiting.length > 0) await flush();
      await data.sync();
    });
    const complete = await system("read it back", () =>
      isComplete(files, partial, layout, [...entries.values()]),
    );
    if (!complete) {
      const message = `${partial} does not have the bytes that were written; start anew (--restart)`;
      throw new IsqError("output/verify", message, { file: partial, field: "sha256" });
    }
    await check(partial);
  };
  return {
    has: (tensor) => entries.has(tensor),
    write: (byteOffset, bytes) =>
      system("write", async () => {
        await writeAll(data, bytes, byteOffset);
        unflushed += bytes.byteLength;
      }),
    finish: (tensor) =>
      system("write", async () => {
        waiting.push({ tensor, sha256: await hashTargets(data, layout.targets.get(tensor) ?? []) });
        if (unflushed >= state.flushBytes) await flush();
      }),
    seal,
    async commit(check) {
      await seal(check);
      await closeAll(state.opened);
      await system("rename", () => files.rename(partial, path));
      await system("sync the folder", () => syncFolder(files, path));
      await system("remove the journal", () => files.rm(journal, { force: true }));
    },
    async close() {
      if (waiting.length > 0) await flush().catch(() => {}); // only costs the next run some work
      await closeAll(state.opened);
    },
  };
}

/** A file that was renamed already; what is left is the end of `commit`. */
function finishedFile(path: string, journal: string, layout: SaveFile, files: Files): PartialFile {
  const system = <Result>(doing: string, work: () => Promise<Result>) => attempt(path, doing, work);
  return {
    has: (tensor) => layout.targets.has(tensor),
    write: () => {},
    finish: async () => {},
    seal: (check) => check(path),
    async commit(check) {
      await check(path);
      await system("sync the folder", () => syncFolder(files, path));
      await system("remove the journal", () => files.rm(journal, { force: true }));
    },
    close: async () => {},
  };
}

/** Throws `output/input` when a file is one of those that are read. */
export async function checkInputs(
  files: Files,
  path: string,
  stats: Stats,
  inputs: readonly string[],
): Promise<void> {
  for (const input of inputs) {
    const same = await attempt(path, `look at ${input}`, () => isSameFile(files, input, stats));
    if (!same) continue;
    const message = `${path} is the same file as ${input}, which is read; choose another name`;
    throw new IsqError("output/input", message, { file: path, field: "output", value: path, limit: input });
  }
}

/** Throws `output/folder` unless the folder is there, `output/space` unless its disk has room. */
export async function checkSpace(files: Files, path: string, byteLength: number): Promise<void> {
  await checkFolder(files, path);
  const { bavail, bsize } = await attempt(path, "look at the disk", () => files.statfs(dirname(path)));
  if (byteLength <= bavail * bsize) return;
  const message = `${path} needs ${byteLength} more bytes, and its disk has ${bavail * bsize}`;
  throw new IsqError("output/space", message, { file: path, value: byteLength, limit: bavail * bsize });
}

async function checkFolder(files: Files, path: string): Promise<void> {
  const folder = dirname(path);
  const found = await files.stat(folder).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error ? found.code !== "ENOENT" : found.isDirectory()) return;
  const message = `${path}: cannot be written, there is no folder ${folder}`;
  throw new IsqError("output/folder", message, { file: path, field: "output", value: folder });
}
