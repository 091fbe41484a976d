/** `#platform` where there are no files and no Node threads: paths are refused, with what to pass instead. */

import type { Backend } from "./backends/backend.js";
import type { OpenBackendOptions } from "./backends/open.js";
import { IsqError } from "./errors.js";
import type { Directory } from "./files/directory.js";
import type { ByteSource } from "./files/source.js";

export function openDirectory(path: string): Promise<Directory> {
  const message = `this runtime has no file system to open ${path}; pass a Directory of Blobs`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openFile(path: string): Promise<ByteSource> {
  const message = `this runtime has no file system to open ${path}; pass a Blob`;
  return Promise.reject(new IsqError("backend/unavailable", message, { file: path }));
}

export function openThreads(_options: OpenBackendOptions): Promise<Backend> {
  const message = "the threads backend needs the worker threads of Node; use isq/wasm";
  return Promise.reject(new IsqError("backend/unavailable", message, { field: "backend", value: "threads" }));
}
