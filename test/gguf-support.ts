/** Models written as GGUF in memory. */

import { expect } from "vitest";
import type { DenseType } from "../src/backends/backend.js";
import { wasm } from "../src/backends/wasm.js";
import { type Directory, fromFiles } from "../src/files/directory.js";
import type { GgufMetadata } from "../src/files/gguf-values.js";
import { toBytes } from "../src/files/gguf-write.js";
import { planGgufSave } from "../src/gguf-export.js";
import { shareHead } from "../src/gguf-head.js";
import type { OpenedModel } from "../src/load.js";
import { type PlanRequest, plan } from "../src/plan.js";
import type { IsqType } from "../src/quants/table.js";
import { saveModel } from "../src/save.js";

export interface GgufRequest extends Partial<PlanRequest> {
  readonly dense?: DenseType;
  readonly tokenizer?: GgufMetadata;
  readonly chunkElements?: number;
}

/** The bytes of an open model's GGUF file, quantized as requested. */
export async function toGguf(
  opened: OpenedModel,
  { dense, tokenizer, chunkElements, ...request }: GgufRequest = {},
): Promise<Uint8Array> {
  const decided = shareHead(plan(opened.program, opened.sourceOf, { type: null, ...request }), opened.config);
  const options = { ...(dense && { dense }), ...(tokenizer && { tokenizer }) };
  const planned = planGgufSave(opened.config, decided, options);
  const sink = toBytes(planned.byteLength);
  await saveModel(planned, decided, opened.checkpoint, await wasm(), sink, {
    ...(chunkElements && { chunkElements }),
  });
  return sink.bytes;
}

/** A folder in memory with one file, `model.gguf`. */
export function ggufDirectory(bytes: Uint8Array): Directory {
  return fromFiles([["model.gguf", new Blob([bytes as BlobPart])]], "gguf");
}

/** Rules that give the embeddings a type as well. */
export function withEmbeddings(type: IsqType): Pick<PlanRequest, "topology"> {
  return { topology: [{ pattern: /embed/, isq: type }] };
}

/** The same bytes; `toEqual` walks megabytes one by one. */
export function expectSame(a: Uint8Array | Float32Array, b: Uint8Array | Float32Array): void {
  const bytes = ({ buffer, byteOffset, byteLength }: typeof a) => Buffer.from(buffer, byteOffset, byteLength);
  expect(bytes(a).equals(bytes(b))).toBe(true);
}
