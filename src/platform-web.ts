/** `#platform` where there are no files and no Node threads: paths are refused, with what to pass instead. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { Backend } from "./backends/backend.js";
import type { OpenBackendOptions } from "./backends/open.js";
import { IsqError } from "./errors.js";
import type { Directory } from "./files/directory.js";
import type { ByteSource } from "./files/source.js";
import type { Hasher } from "./hash.js";
import type { PartialFile } from "./node/partial-file.js";

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

export function writeTextFile(path: string, _text: string): Promise<void> {
  const message = `this runtime has no file system to write ${path}`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openHasher(): Hasher {
  const hash = sha256.create();
  return { update: (bytes) => void hash.update(bytes), finish: () => bytesToHex(hash.digest()) };
}

export function openThreads(_options: OpenBackendOptions): Promise<Backend> {
  const message = "the threads backend needs the worker threads of Node; use isq/wasm";
  return Promise.reject(new IsqError("backend/unavailable", message, { field: "backend", value: "threads" }));
}
