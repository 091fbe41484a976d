/** `isq audit`: whether a quantized file is what an encoder makes of its source, tensor by tensor. */

import { basename, dirname } from "node:path";
import { type Command, Option } from "commander";
import { type AuditedFile, audit } from "../audit.js";
import { BACKEND_CHOICES, type BackendChoice, openBackend } from "../backends/open.js";
import { IsqError } from "../errors.js";
import { openCheckpoint } from "../files/checkpoint.js";
import { openGgufFiles } from "../files/gguf-split.js";
import { openGgufCheckpoint } from "../gguf-checkpoint.js";
import { readWeights } from "../load.js";
import { openDirectory } from "../node/directory.js";
import { formatAudit } from "../report/audit-text.js";
import { openUqffCheckpoint } from "../uqff-checkpoint.js";
import { readImportanceOf } from "./importance.js";
import { isFolder } from "./open-files.js";
import { createProgress } from "./progress.js";

interface AuditFlags {
  readonly quantized: string;
  readonly source?: string;
  readonly imatrix?: string;
  readonly backend: BackendChoice;
  readonly json?: boolean;
}

type Closable = AuditedFile & { close(): Promise<void> };

export function addAuditCommand(program: Command): void {
  program
    .command("audit")
    .description("compare a quantized file with its source, or look for impossible blocks without one")
    .requiredOption(
      "--quantized <file>",
      "a GGUF or UQFF file, or the first of several; or a safetensors file",
    )
    .option("--source <dir>", "a folder with safetensors files, or a GGUF file with unquantized weights")
    .option("--imatrix <file>", "importance that may have been used: it is tried beside none")
    .addOption(
      new Option("--backend <name>", "where to encode").choices([...BACKEND_CHOICES]).default("auto"),
    )
    .option("--json", "print the report as JSON")
    .action(async (flags: AuditFlags) => {
      const report = await auditFiles(flags);
      process.stdout.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : formatAudit(report));
      if (!report.ok) process.exitCode = 1;
    });
}

async function auditFiles({ quantized, source, imatrix, backend: choice }: AuditFlags) {
  // Without a source names need no translation, so that any architecture will do.
  const opened: Closable[] = [
    source === undefined ? await openRaw(quantized) : await openModelFile(quantized),
  ];
  const backend = await openBackend(choice);
  const progress = createProgress("auditing");
  try {
    if (source !== undefined) opened.push(await openSource(source));
    const tensors = opened[0].tensors.values();
    const importance = imatrix === undefined ? undefined : await readImportanceOf(imatrix, tensors);
    return await audit(opened[0], {
      backend,
      ...(opened[1] && { source: opened[1] }),
      ...(importance && { importance }),
      onProgress: (done, total, tensor) => progress.update(done, total, tensor),
    });
  } finally {
    progress.end();
    await backend.dispose();
    for (const file of opened) await file.close();
  }
}

const folderOf = async (path: string) => openDirectory(dirname(path));

const endingOf = (path: string): string => /\.(\w+)$/.exec(path.toLowerCase())?.[1] ?? "";

async function openRaw(path: string): Promise<Closable> {
  return endingOf(path) === "gguf"
    ? openGgufFiles(await folderOf(path), basename(path))
    : openModelFile(path);
}

/** With the names that checkpoints have. */
async function openModelFile(path: string): Promise<Closable> {
  if (await isFolder(path)) {
    throw new IsqError("source/open", `${path} is a folder; name a file of it`, { file: path });
  }
  const [folder, file] = [await folderOf(path), basename(path)];
  switch (endingOf(path)) {
    case "gguf":
      return (await openGgufCheckpoint(folder, file)).checkpoint;
    case "uqff":
      return openUqffCheckpoint(folder, file, { weights: () => readWeights(folder), residual: false });
    default:
      return openCheckpoint(folder, { file });
  }
}

const openSource = async (path: string): Promise<Closable> =>
  ["gguf", "safetensors"].includes(endingOf(path))
    ? openModelFile(path)
    : openCheckpoint(await openDirectory(path));
