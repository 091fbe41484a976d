/** A safetensors file without its model: which of its tensors are quantized, and the file that comes out. */

import type { Backend } from "../../src/backends/backend.js";
import type { Program, WeightRole, WeightSpec } from "../../src/backends/program.js";
import { isDense } from "../../src/dense.js";
import { IsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import { toBytes } from "../../src/files/gguf-write.js";
import { type Plan, plan } from "../../src/plan.js";
import type { IsqType } from "../../src/quants/table.js";
import { planSafetensorsSave } from "../../src/safetensors-export.js";
import { saveModel } from "../../src/save.js";

export interface QuantizedFile {
  readonly plan: Plan;
  readonly bytes: Uint8Array;
}

/** By shape and name, since there is no config: matrices are linears, but for embeddings and routers. */
function roleOf(name: string, shape: readonly number[]): WeightRole {
  if (shape.length !== 2) return "norm";
  if (/embed|wte|wpe/.test(name)) return "embedding";
  return /\bgate\.weight$|router/.test(name) ? "router" : "linear";
}

/**
 * Quantizes a file on a backend. Throws `safetensors/*`, `plan/nothing`, `values/non-finite`, `aborted`, and
 * `safetensors/quantized` for a file that is quantized already.
 */
export async function quantizeFile(
  name: string,
  file: Blob,
  type: IsqType,
  backend: Backend,
  options: { signal?: AbortSignal; onProgress?: (done: number, total: number, tensor: string) => void } = {},
): Promise<QuantizedFile> {
  const checkpoint = await openCheckpoint(fromFiles([[name, file]], "dropped"), { file: name });
  const entries = [...checkpoint.tensors.values()];
  const weights = entries.map(({ name: tensor, shape, dtype }): WeightSpec => {
    if (isDense(dtype)) return { name: tensor, shape, role: roleOf(tensor, shape), layer: null };
    const message = `${tensor} is ${dtype}: only F32, F16 and BF16 are quantized here`;
    throw new IsqError("safetensors/quantized", message, { file: name, tensor, value: dtype });
  });
  const sourceOf = ({ name: tensor, shape }: WeightSpec) => {
    return { name: tensor, type: checkpoint.tensors.get(tensor)!.dtype as "F32", shape };
  };
  const decided = plan({ weights } as unknown as Program, sourceOf, { type });
  const layout = planSafetensorsSave(decided, { format: "pt" });
  const sink = toBytes(layout.byteLength);
  const { signal, onProgress } = options;
  await saveModel(layout, decided, checkpoint, backend, sink, {
    ...(signal && { signal }),
    onProgress: ({ done, total, row }) => onProgress?.(done, total, row.tensor),
  });
  return { plan: decided, bytes: sink.bytes };
}
