/** Writing GGUF over several files, which appear together. */

import type { Backend } from "./backends/backend.js";
import { openGguf } from "./files/gguf.js";
import { openGgufFiles } from "./files/gguf-split.js";
import type { GgufMetadata } from "./files/gguf-values.js";
import { planGgufShards } from "./gguf-export.js";
import type { OpenedModel } from "./load.js";
import { type Provenance, provenanceKeys } from "./provenance.js";
import { ggufShardPlaces } from "./receipt-places.js";
import { saveModel } from "./save.js";
import {
  fingerprintOf,
  receiptPath,
  splitPath,
  type WriteJob,
  type WriteOptions,
  type WriteReport,
  withFile,
  writeSetReceipt,
} from "./write-output.js";

export interface DescribedJob extends WriteJob {
  readonly provenance: Provenance;
  readonly tokenizer: GgufMetadata | undefined;
}

/** What a GGUF file says beside its model; a source's own tokenizer comes before `tokenizer`. */
export function ggufOptionsOf(
  source: OpenedModel["gguf"],
  provenance: Provenance,
  tokenizer: GgufMetadata | undefined,
): { readonly further: GgufMetadata; readonly tokenizer?: GgufMetadata } {
  const kept = new Map([...(source?.files.metadata ?? [])].filter(([key]) => !REPLACED.test(key)));
  const further: GgufMetadata = new Map([...provenanceKeys(provenance), ...kept]);
  const own = kept.has("tokenizer.ggml.model") ? new Map() : tokenizer;
  return { further, ...(own && { tokenizer: own }) };
}

/** Keys of a source file that say how it was split, aligned or quantized. */
const REPLACED = /^(split|quantize|isq)\.|^general\.(alignment|file_type|quantization_version)$/;

/** Executes a plan into shards of at most `shardByteLength` bytes of tensors. Throws as writeModels, and `gguf/split`. */
export async function writeGgufShards(
  opened: OpenedModel,
  { plan, path, provenance, tokenizer }: DescribedJob,
  backend: Backend,
  { overwrite = false, restart = false, shardByteLength = Infinity, receipt, ...options }: WriteOptions,
): Promise<WriteReport> {
  const { openFile, openPartialSet } = await import("#platform");
  const { checkpoint, config, gguf } = opened;
  const { folder, stem } = splitPath(path);
  const own = ggufOptionsOf(gguf, provenance, tokenizer);
  const shards = planGgufShards(config, plan, { stem, shardByteLength, ...own });
  const set = [...shards.slice(1), shards[0]]; // which readers ask for: with it the set is there
  const partial = await openPartialSet(folder, `${path}.partial`, set, {
    fingerprint: await fingerprintOf(set, provenance),
    inputs: checkpoint.sources.flatMap((source) => source.path ?? []),
    overwrite,
    restart,
  });
  const total = shards.reduce((sum, { file }) => sum + file.targets.size, 0);
  const reports = [];
  let before = 0;
  for (const { name, file } of shards) {
    const onProgress: WriteOptions["onProgress"] = ({ done, row }) =>
      options.onProgress?.({ done: before + done, total, row });
    const part = await partial.open(name);
    try {
      reports.push(await saveModel(file, plan, checkpoint, backend, part, { ...options, onProgress }));
      before += file.targets.size;
      await part.seal((written) => withFile(written, openGguf));
    } finally {
      await part.close();
    }
  }
  const receiptFile = receiptPath(path, receipt);
  await partial.publish(async (pathOf) => {
    const files = shards.map(({ name }) => ({ name, path: pathOf(name) }));
    const written = {
      name: folder,
      has: async (name: string) => files.some((one) => one.name === name),
      open: (name: string) => openFile(pathOf(name)),
    };
    await (await openGgufFiles(written, shards[0].name)).close();
    if (receiptFile === undefined) return;
    const places = ggufShardPlaces(opened, shards);
    await writeSetReceipt(receiptFile, files, { ...options, plan, checkpoint, places });
  });
  const tensors = reports.flatMap((report) => report.tensors);
  return {
    plan,
    tensors,
    seconds: reports.reduce((sum, { seconds }) => sum + seconds, 0),
    resumedTensors: total - tensors.length,
    byteLength: shards.reduce((sum, { file }) => sum + file.byteLength, 0),
    path: `${folder}/${shards[0].name}`,
    ...(receiptFile && { receipt: receiptFile }),
  };
}
