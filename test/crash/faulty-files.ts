/** The system's files with a fault at one call: an error, or an end of everything as after kill -9. */

import { accessSync, mkdtempSync } from "node:fs";
import nodeFiles from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Files } from "../../src/node/partial-file.js";

export type Fault =
  /** The call fails with an error; later ones work. */
  | "error"
  /** Half of what is to be written is written, then the disk is full. */
  | "full"
  /** The call and all later ones do nothing: the process is gone. */
  | "killed"
  /** As `killed`, and half of what was to be written is there. */
  | "torn"
  /** A write takes some bytes only, as writes may. */
  | "short";

export interface FaultyFiles extends Files {
  /** Calls so far. */
  readonly calls: number;
}

/** A new folder, in memory where there is one: thousands of syncs of a disk take minutes and show nothing more. */
export function makeFolder(): string {
  try {
    accessSync("/dev/shm");
    return mkdtempSync("/dev/shm/isq-");
  } catch {
    return mkdtempSync(join(tmpdir(), "isq-"));
  }
}

/** `failAt` counts calls from 0. */
export function faultyFiles(failAt: number, fault: Fault): FaultyFiles {
  let calls = 0;
  const fail = () =>
    Object.assign(new Error("injected fault"), { code: fault === "full" ? "ENOSPC" : "EIO" });
  const call = async (work: (half: boolean) => Promise<unknown>): Promise<unknown> => {
    const number = calls++;
    const dead = (fault === "killed" || fault === "torn") && number > failAt;
    if (number !== failAt && !dead) return work(false);
    if (fault === "short") return work(true);
    if ((fault === "full" || fault === "torn") && number === failAt) await work(true);
    throw fail();
  };
  const wrap = (handle: nodeFiles.FileHandle): nodeFiles.FileHandle =>
    new Proxy(handle, {
      get(target, name) {
        const method = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>;
        if (typeof method !== "function") return method;
        return (...args: unknown[]) => {
          if (name === "close") return method.apply(target, args); // so that tests leave nothing open
          return call((half) => {
            if (!half) return method.apply(target, args);
            if (name !== "write" && name !== "read") return Promise.resolve();
            const [bytes, offset, length, position] = args as [Uint8Array, number, number, number];
            const some = fault === "short" ? Math.max(1, length >> 1) : length >> 1;
            return method.call(target, bytes, offset, some, position);
          });
        };
      },
    });
  const through = (name: keyof Files) =>
    ((...args: unknown[]) =>
      call((half) =>
        half && fault !== "short"
          ? Promise.resolve()
          : (nodeFiles[name] as (...all: unknown[]) => Promise<unknown>)(...args),
      )) as never;
  return {
    get calls() {
      return calls;
    },
    open: (async (path: string, flags: string) =>
      wrap(
        (await call(async (half) =>
          half && fault !== "short" ? null : nodeFiles.open(path, flags),
        )) as nodeFiles.FileHandle,
      )) as Files["open"],
    rename: through("rename"),
    rm: through("rm"),
    stat: through("stat"),
    statfs: through("statfs"),
    readFile: through("readFile"),
    mkdir: through("mkdir"),
  };
}
