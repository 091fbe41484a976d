/** The worker of the threads backend in browsers: a message is a task, and its answer goes back. */

import type { OpenedFile } from "../backends/file-values.js";
import type { WorkerTask } from "../backends/threads-protocol.js";
import { startWorker } from "../backends/worker.js";
import { IsqError } from "../errors.js";

/** Blocking reads of Blobs, which only worker threads have. */
declare class FileReaderSync {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

function openBlob({ path, blob }: { path: string; blob?: Blob }): OpenedFile {
  if (!blob) throw new IsqError("source/open", `a browser has no file ${path}`, { file: path });
  const reader = new FileReaderSync();
  return {
    readAt(target, position) {
      let bytes: ArrayBuffer;
      try {
        bytes = reader.readAsArrayBuffer(blob.slice(position, position + target.length));
      } catch (cause) {
        const message = `${path}: ${cause instanceof Error ? cause.message : cause}`;
        throw new IsqError("source/read", message, { file: path }, { cause });
      }
      if (bytes.byteLength !== target.length) {
        const [value, limit] = [position + bytes.byteLength, position + target.length];
        throw new IsqError("source/short", `${path} ends at byte ${value}`, { file: path, value, limit });
      }
      target.set(new Uint8Array(bytes));
    },
    close() {},
  };
}

// No browser lets its garbage collector be called.
const work = startWorker({ openFile: openBlob, letGo() {}, collect() {} });

addEventListener("message", async ({ data }: MessageEvent<WorkerTask>) => {
  try {
    postMessage(await work(data));
  } catch (error) {
    // Not one of our refusals: this worker cannot be trusted any more. An error of its own makes the pool replace it.
    reportError(error);
  }
});
