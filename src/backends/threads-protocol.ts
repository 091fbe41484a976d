/** What the threads backend asks of its workers: plain data and shared memory, so that it crosses a message port. */

import type { ErrorDetails, ErrorTag } from "../errors.js";
import type { FileTensor, PlaceEncoding, Tensor } from "./backend.js";
import type { EncodeJob, EncodeOutput, EncodeResult } from "./encode-job.js";
import type { Observation } from "./observe.js";
import type { Batch, Program, WeightIndex } from "./program.js";
import type { ReadTarget } from "./wasm-read.js";
import type { HoldStep } from "./wasm-weights.js";

/** What all tasks of a team have in common. */
export interface TeamTask {
  /** See team.ts; in shared memory. */
  readonly state: Int32Array;
  readonly members: number;
  readonly spin: boolean;
}

export type WorkerTask = TeamTask &
  (
    | { readonly kind: "hello" }
    | {
        readonly kind: "encode";
        readonly job: EncodeJob;
        readonly values: Float32Array | FileTensor;
        readonly out: EncodeOutput;
      }
    | { readonly kind: "decode"; readonly tensor: Tensor; readonly out: Float32Array }
    | {
        readonly kind: "multiply";
        readonly weights: Tensor;
        readonly rows: number;
        readonly activations: Float32Array;
        readonly out: Float32Array;
      }
    /** Reads a file's bytes into shared memory. */
    | { readonly kind: "read"; readonly file: FileTensor; readonly out: Uint8Array }
    | {
        readonly kind: "open";
        readonly session: number;
        readonly program: Program;
        readonly memoryByteLength: number;
        readonly workerByteLength: number;
      }
    | {
        readonly kind: "place";
        readonly session: number;
        readonly weight: WeightIndex;
        readonly tensor: Tensor;
      }
    | {
        readonly kind: "placeFile";
        readonly session: number;
        readonly weight: WeightIndex;
        readonly file: FileTensor;
        /** Null: rows stay as they are in the file. */
        readonly encode: PlaceEncoding | null;
        readonly bad: Int32Array;
      }
    | {
        readonly kind: "run";
        readonly session: number;
        readonly batch: Batch;
        /** The shared slots, when they are not those of the step before. */
        readonly arrays: readonly (Float32Array | null)[] | null;
      }
    /** As `hold`, `commit` and `discard` of a session. */
    | { readonly kind: "turn"; readonly session: number; readonly step: HoldStep }
    | {
        readonly kind: "readBack";
        readonly session: number;
        readonly weight: WeightIndex;
        readonly target: ReadTarget;
      }
    | { readonly kind: "observe"; readonly session: number; readonly observation: Observation | null }
    | { readonly kind: "close"; readonly session: number }
  );

/** What a worker answers. Refusals are data: a thrown error would lose its tag on the way. */
export type WorkerAnswer =
  | { readonly error: null; readonly result: EncodeResult | null }
  | { readonly error: { readonly tag: ErrorTag; readonly message: string; readonly details: ErrorDetails } };
