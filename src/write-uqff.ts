/** Writing UQFF: the shards of one or more types, what they share, and the report that makes the set complete. */

import type { Backend } from "./backends/backend.js";
import type { Directory } from "./files/directory.js";
import { readFile } from "./files/directory.js";
import { openSafetensors } from "./files/safetensors.js";
import type { ByteSource } from "./files/source.js";
import { openUqff, UQFF_VERSION } from "./files/uqff.js";
import { formatUqffReport, UQFF_REPORT } from "./files/uqff-report.js";
import { LIMITS } from "./limits.js";
import type { OpenedModel } from "./load.js";
import type { Plan } from "./plan.js";
import { type Provenance, provenanceTexts } from "./provenance.js";
import { uqffPlaces } from "./receipt-places.js";
import { type SaveFile, saveModel } from "./save.js";
import { planUqff, type UqffExport, type UqffFile } from "./uqff-export.js";
import { VERSION } from "./version.js";
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

/** Small files of a model's folder that stand beside the shards, so that the new folder is a model, too. */
const COMPANIONS = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "modules.json",
  "processor_config.json",
  "preprocessor_config.json",
];

type Described = WriteJob & { readonly provenance: Provenance };

/** One type's shards. */
interface Output extends UqffExport {
  readonly job: Described;
  readonly stem: string;
}

/** Executes plans that differ in their types only. Throws as writeModels. */
export async function writeUqff(
  opened: OpenedModel,
  jobs: readonly Described[],
  backend: Backend,
  { overwrite = false, restart = false, shardByteLength, receipt: wanted, ...options }: WriteOptions,
): Promise<WriteReport[]> {
  const { openPartialSet } = await import("#platform");
  const { checkpoint } = opened;
  const { folder } = splitPath(jobs[0].path);
  const outputs = jobs.map((job): Output => {
    const { stem } = splitPath(job.path);
    const metadata = provenanceTexts(job.provenance);
    return {
      job,
      stem,
      ...planUqff(job.plan, { stem, metadata, ...(shardByteLength && { shardByteLength }) }),
    };
  });
  const set = await listFiles(opened, outputs);
  const partial = await openPartialSet(folder, `${folder}/${outputs[0].stem}.uqff.partial`, set, {
    fingerprint: await fingerprintOf(set, jobs[0].provenance),
    inputs: checkpoint.sources.flatMap((source) => source.path ?? []),
    stale: outputs.map(
      ({ stem, shards }) =>
        (i: number) =>
          `${stem}-${shards.length + i}.uqff`,
    ),
    overwrite,
    restart,
  });
  const total = set.reduce((sum, { file }) => sum + file.targets.size, 0);
  let before = 0;
  const onProgress: WriteOptions["onProgress"] = ({ done, row }) =>
    options.onProgress?.({ done: before + done, total, row });
  const write = async ({ name, file }: UqffFile, plan: Plan) => {
    const part = await partial.open(name);
    try {
      const report = await saveModel(file, plan, checkpoint, backend, part, { ...options, onProgress });
      before += file.targets.size;
      const isTensors = name.endsWith(".uqff") || name.endsWith(".safetensors");
      await part.seal((path) => (isTensors ? withFile(path, openSafetensors) : Promise.resolve()));
      return { report, resumed: file.targets.size - report.tensors.length };
    } finally {
      await part.close();
    }
  };
  const reports: WriteReport[] = [];
  for (const { job, shards, residual } of outputs) {
    const first = reports.length === 0;
    const parts = [];
    for (const one of [...shards, ...(first ? [residual] : [])]) parts.push(await write(one, job.plan));
    const files = [...shards, residual];
    reports.push({
      plan: job.plan,
      tensors: parts.flatMap(({ report }) => report.tensors),
      seconds: parts.reduce((sum, { report }) => sum + report.seconds, 0),
      resumedTensors: parts.reduce((sum, { resumed }) => sum + resumed, 0),
      byteLength: files.reduce((sum, { file }) => sum + file.byteLength, 0),
      path: `${folder}/${shards[0].name}`,
      ...(wanted !== undefined && { receipt: receiptPath(job.path, wanted) as string }),
    });
  }
  const done = new Set(
    outputs.flatMap(({ shards, residual }) => [...shards, residual].map(({ name }) => name)),
  );
  for (const one of set) if (!done.has(one.name)) await write(one, jobs[0].plan);
  await partial.publish(async (pathOf) => {
    for (const { job, shards, residual } of outputs) {
      await checkShards(shards.map(({ name }) => pathOf(name)));
      const receipt = receiptPath(job.path, wanted);
      if (receipt === undefined) continue;
      const files = [...shards, residual];
      const request = { ...options, plan: job.plan, checkpoint, places: uqffPlaces(job.plan, files) };
      await writeSetReceipt(
        receipt,
        files.map(({ name }) => ({ name, path: pathOf(name) })),
        request,
      );
    }
  });
  return reports;
}

/** All files, the report last. */
async function listFiles(
  { directory, config }: OpenedModel,
  outputs: readonly Output[],
): Promise<readonly UqffFile[]> {
  const [{ residual }] = outputs;
  const companions: UqffFile[] = [];
  for (const name of COMPANIONS) {
    const bytes = await readCompanion(directory, name, config.fields.values);
    if (bytes) companions.push({ name, file: wholeFile(bytes) });
  }
  const text = formatUqffReport({
    generated_by: { tool: "isq quantize", isq_version: VERSION },
    uqff_version: Object.values(UQFF_VERSION).join("."),
    outputs: outputs.map(({ output }) => output),
  });
  const report = { name: UQFF_REPORT, file: wholeFile(new TextEncoder().encode(text)) };
  return [...outputs.flatMap(({ shards }) => shards), residual, ...companions, report];
}

/** A model in a GGUF file has its config in the metadata. */
async function readCompanion(
  directory: Directory,
  name: string,
  config: Readonly<Record<string, unknown>>,
): Promise<Uint8Array | null> {
  if (await directory.has(name)) return readFile(directory, name, LIMITS.jsonBytes);
  if (name !== "config.json") return null;
  return new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`);
}

/** A file that is known beforehand. */
function wholeFile(bytes: Uint8Array): SaveFile {
  return {
    format: "bytes",
    byteLength: bytes.byteLength,
    fixed: [{ byteOffset: 0, bytes }],
    targets: new Map(),
  };
}

async function checkShards(paths: readonly string[]): Promise<void> {
  const { openFile } = await import("#platform");
  const sources: ByteSource[] = [];
  try {
    for (const path of paths) sources.push(await openFile(path));
    await openUqff(sources);
  } finally {
    for (const source of sources) await source.close?.();
  }
}
