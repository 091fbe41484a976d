/** `#platform` in browsers, where there are no files: paths are refused, with what to pass instead. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { Crew } from "../backends/pool.js";
import { IsqError } from "../errors.js";
import type { Directory } from "../files/directory.js";
import type { ByteSource } from "../files/source.js";
import type { Hasher } from "../hash.js";
import type { PartialFile } from "../node/partial-file.js";
import type { PartialSet } from "../node/partial-set.js";

export function openDirectory(path: string): Promise<Directory> {
  const message = `this runtime has no file system to open ${path}; pass a Directory of Blobs`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openFile(path: string): Promise<ByteSource> {
  const message = `this runtime has no file system to open ${path}; pass a Blob`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openPartialFile(path: string): Promise<PartialFile> {
  const message = `this runtime has no file system to write ${path}; saveModel takes any sink`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function writeSmallFile(path: string, _content: string | Uint8Array): Promise<void> {
  const message = `this runtime has no file system to write ${path}`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openPartialSet(folder: string): Promise<PartialSet> {
  const message = `this runtime has no file system to write ${folder}; saveModel takes any sink`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: folder }));
}

export function openHasher(): Hasher {
  const hash = sha256.create();
  return { update: (bytes) => void hash.update(bytes), finish: () => bytesToHex(hash.digest()) };
}

/** Starts worker threads. Throws `backend/unavailable` in pages that may not share memory, `option/invalid`. */
export async function openCrew(workers?: number): Promise<Crew> {
  return (await import("./crew.js")).openCrew(workers);
}

export function openGpu(adapter?: string | number): Promise<GPU> {
  if (adapter === undefined || adapter === 0) {
    const message = "this runtime has no WebGPU (navigator.gpu); use isq/wasm";
    return Promise.reject(
      new IsqError("backend/unavailable", message, { field: "backend", value: "webgpu" }),
    );
  }
  const message = "adapters are chosen by name or number under Node only; pass a GPUAdapter";
  return Promise.reject(new IsqError("backend/unavailable", message, { field: "adapter", value: adapter }));
}

/** Browsers end their devices themselves. */
export function destroyAtExit(_device: GPUDevice): void {}
