/** The file suite: the malformed catalogues, and files written, read again, audited and vouched for, all in memory. */

import { audit } from "../../../src/audit.js";
import type { Backend } from "../../../src/backends/backend.js";
import { isIsqError } from "../../../src/errors.js";
import { openCheckpoint } from "../../../src/files/checkpoint.js";
import { fromFiles } from "../../../src/files/directory.js";
import { openGguf } from "../../../src/files/gguf.js";
import { openGgufFiles } from "../../../src/files/gguf-split.js";
import { toBytes } from "../../../src/files/gguf-write.js";
import { openImatrix, writeCimatrix, writeImatrixGguf } from "../../../src/files/imatrix.js";
import { openSafetensors } from "../../../src/files/safetensors.js";
import { fromBytes } from "../../../src/files/source.js";
import { openGgufCheckpoint } from "../../../src/gguf-checkpoint.js";
import { importanceEntries } from "../../../src/importance.js";
import { readTopologyFile } from "../../../src/inputs.js";
import { type OpenedModel, openModel } from "../../../src/load.js";
import { makeImportance } from "../../../src/oracle/rows.js";
import { type Plan, plan } from "../../../src/plan.js";
import { formatReceipt, makeReceipt } from "../../../src/receipt.js";
import { placesOf } from "../../../src/receipt-places.js";
import { saveModel } from "../../../src/save.js";
import { planFile } from "../../../src/write-model.js";
import type { Digests } from "./digest.js";
import { type Host, modelDirectory } from "./host.js";

type Open = (bytes: Uint8Array, name: string) => Promise<unknown>;

const openers: Readonly<Record<string, Open>> = {
  gguf: async (bytes, name) => {
    const file = await openGguf(fromBytes(bytes, name));
    for (const tensor of file.tensors.keys()) await file.read(tensor);
  },
  safetensors: (bytes, name) => openSafetensors(fromBytes(bytes, name)),
  imatrix: (bytes, name) => openImatrix(fromBytes(bytes, name)),
  topology: (bytes, name) => readTopologyFile(new File([bytes as BlobPart], name)),
};

/** What each file of a catalogue gives, in words; the tags that its list expects are failures otherwise. */
export async function runMalformed(host: Host, digests: Digests): Promise<string[]> {
  const failures: string[] = [];
  for (const [format, open] of Object.entries(openers)) {
    const folder = `test/malformed/${format}`;
    const expected: Record<string, string> = JSON.parse(await readText(host, `${folder}/expected.json`));
    for (const [name, tag] of Object.entries(expected)) {
      // Some are wrong only for a model; without one they open. The node tests have them with one.
      const said = await outcome(() => openCase(host, folder, name, open));
      digests.text(`malformed ${format}`, `${name}: ${said}\n`);
      if (said !== tag && !(said === "ok" && MODEL_TAGS.test(tag)))
        failures.push(`${name}: ${said}, not ${tag}`);
    }
  }
  return failures;
}

const MODEL_TAGS = /^(importance|topology\/layers|topology\/device|imatrix\/layers|shape|type)/;

async function openCase(host: Host, folder: string, name: string, open: Open): Promise<unknown> {
  if (!name.endsWith("/")) return open(await host.read(`${folder}/${name}`), name);
  const files = await host.list(`${folder}/${name}`);
  const blobs: [string, Blob][] = [];
  for (const file of files)
    blobs.push([file, new Blob([(await host.read(`${folder}/${name}${file}`)) as BlobPart])]);
  const directory = fromFiles(blobs, name);
  return folder.endsWith("/gguf")
    ? openGgufFiles(directory, "m-00001-of-00002.gguf")
    : openCheckpoint(directory);
}

async function outcome(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
    return "ok";
  } catch (error) {
    return isIsqError(error) ? error.tag : `no tag: ${error}`;
  }
}

const readText = async (host: Host, path: string): Promise<string> =>
  new TextDecoder().decode(await host.read(path));

const FILES = [
  ["gguf", { type: "Q4K" }],
  ["safetensors", { type: "HQQ4" }],
  ["safetensors", { type: "FP8" }],
  ["safetensors", { type: "Q5_1", algorithm: "mistralrs" }],
] as const;

/** Models written by a backend, read again, audited, with receipts; so many of the files at most. */
export async function runFiles(
  host: Host,
  backend: Backend,
  digests: Digests,
  most = Number.POSITIVE_INFINITY,
): Promise<string[]> {
  const model = await openModel(await modelDirectory(host));
  const failures: string[] = [];
  const importance = importanceOf(model);
  for (const [format, request] of FILES.slice(0, most)) {
    const name = `file ${request.type}.${format}`;
    // Of the four only K types have importance under both lineages.
    const decided = plan(model.program, model.sourceOf, {
      ...request,
      ...(request.type === "Q4K" && { importance }),
    });
    const bytes = await write(model, decided, format, backend, importance);
    digests.bytes(name, bytes);
    const { checkpoint } = await reopen(bytes, format);
    const report = await audit(checkpoint, { source: model.checkpoint, backend, importance });
    digests.text(`${name}, audit`, JSON.stringify(report.tensors));
    if (!report.ok) failures.push(`${name} is not what its source gives`);
    const output = fromBytes(bytes, `model.${format}`);
    const places = placesOf(model, decided, planFile(format, model, decided));
    const { checkpoint: source } = model;
    // Where the source lies is not the same everywhere: some runtimes have it in a folder, some in Blobs.
    const request_ = {
      plan: decided,
      checkpoint: { ...source, locate: () => null },
      output,
      places,
      importance,
    };
    digests.text(`${name}, receipt`, formatReceipt(await makeReceipt(request_)));
  }
  const entries = importanceEntries(importance, model.program, "gguf");
  const matrix = { entries, datasets: ["a"], chunks: 3, chunkTokens: 512 };
  digests.bytes("file imatrix.gguf", await writeImatrixGguf(matrix));
  digests.bytes("file .cimatrix", writeCimatrix(importanceEntries(importance, model.program, "cimatrix")));
  await model.checkpoint.close();
  return failures;
}

function importanceOf({ program }: OpenedModel): Map<string, Float32Array> {
  const linears = program.weights.filter(({ role, layer }) => role === "linear" && layer !== 2);
  return new Map(
    linears.map(({ name, shape }, seed) => [name, makeImportance({ kind: "wide", seed }, shape[1])]),
  );
}

async function write(
  model: OpenedModel,
  decided: Plan,
  format: "gguf" | "safetensors",
  backend: Backend,
  importance: ReadonlyMap<string, Float32Array>,
): Promise<Uint8Array> {
  const file = planFile(format, model, decided);
  const sink = toBytes(file.byteLength);
  await saveModel(file, decided, model.checkpoint, backend, sink, { importance });
  return sink.bytes;
}

async function reopen(bytes: Uint8Array, format: "gguf" | "safetensors") {
  const directory = fromFiles([[`model.${format}`, new Blob([bytes as BlobPart])]]);
  if (format === "gguf") return openGgufCheckpoint(directory, "model.gguf");
  return { checkpoint: await openCheckpoint(directory) };
}
