/** `isq inspect`, `isq diff`: what is in files, and what two differ in. */

import { type Command, Option } from "commander";
import { diffFiles, type FileDifference, type TensorDifference } from "../diff.js";
import { escapeControls } from "../files/json.js";
import { hashTensors, type InspectedFile, type InspectedValue } from "../inspect.js";
import { formatTable } from "../report/text.js";
import { withInterrupt } from "./build.js";
import { checkSets, withFiles } from "./open-files.js";

interface InspectOptions {
  readonly json?: boolean;
  readonly hash?: boolean;
}

export function addInspectCommand(program: Command): void {
  program
    .command("inspect")
    .description(
      "show metadata and tensors of a file (GGUF, UQFF, safetensors, imatrix) or of a model's folder",
    )
    .argument("<path>", "a file or a folder")
    .option("--json", "print everything as JSON, with the sha256 of every tensor")
    .option("--hash", "show the sha256 of every tensor")
    .action((path: string, options: InspectOptions) =>
      withFiles(path, async (files) => {
        for (const file of files) await inspect(file, options);
      }),
    );
}

async function inspect(file: InspectedFile, { json = false, hash = false }: InspectOptions): Promise<void> {
  const hashes = json || hash ? await withInterrupt((signal) => hashTensors(file, signal)) : new Map();
  const { readRange: _, ...summary } = file;
  if (json) {
    const tensors = file.tensors.map((tensor) => ({ ...tensor, sha256: hashes.get(tensor.name) }));
    process.stdout.write(`${JSON.stringify({ ...summary, tensors }, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${describeFile(file)}\n`);
  for (const value of file.metadata) process.stdout.write(`${formatValue(value)}\n`);
  const head = ["tensor", "type", "shape", "bits/weight", "bytes", ...(hash ? ["sha256"] : [])];
  const rows = file.tensors.map(({ name, type, shape, bitsPerWeight, byteLength }) => [
    name,
    type,
    `[${shape.join(", ")}]`,
    bitsPerWeight === null ? "?" : bitsPerWeight.toFixed(3),
    String(byteLength),
    ...(hash ? [hashes.get(name)] : []),
  ]);
  process.stdout.write(`${formatTable(head, rows, new Set([3, 4]))}\n`);
  for (const warning of file.warnings) process.stdout.write(`warning: ${warning}\n`);
}

function describeFile({ file, format, byteLength, tensors }: InspectedFile): string {
  const types = new Map<string, number>();
  for (const { type } of tensors) types.set(type, (types.get(type) ?? 0) + 1);
  const counts = [...types].map(([type, count]) => `${count} ${type}`).join(", ");
  return `${file}: ${format}, ${byteLength} bytes, ${tensors.length} tensors${counts && ` (${counts})`}`;
}

const MOST_ITEMS = 8;
const MOST_CHARACTERS = 200;

function formatValue({ key, type, value }: InspectedValue): string {
  const shown = Array.isArray(value) ? value.slice(0, MOST_ITEMS) : value;
  const text = escapeControls(JSON.stringify(shown) ?? "");
  const cut = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
  const more = Array.isArray(value) && value.length > MOST_ITEMS ? ` … ${value.length} items` : "";
  return `${escapeControls(key)} (${type}) = ${cut}${more}`;
}

/** Reads the structure of a file or folder; damage throws. Of shards, also whether their set is complete. */
export function verifyStructure(path: string, json: boolean): Promise<void> {
  return withFiles(path, async (files) => {
    await checkSets(path, files);
    if (json) {
      const whole = files.map(({ file, format, byteLength, tensors, warnings }) => {
        return { file, format, byteLength, tensors: tensors.length, warnings, whole: true };
      });
      process.stdout.write(`${JSON.stringify(whole, null, 2)}\n`);
      return;
    }
    for (const file of files) {
      for (const warning of file.warnings) process.stdout.write(`warning: ${warning}\n`);
      process.stdout.write(`${describeFile(file)}: whole\n`);
    }
  });
}

interface DiffCommandOptions {
  readonly json?: boolean;
  readonly tensors?: boolean;
  readonly values?: boolean;
}

export function addDiffCommand(program: Command): void {
  program
    .command("diff")
    .description("compare two files tensor by tensor, by the names in them; exit code 1 when they differ")
    .argument("<first>", "a file")
    .argument("<second>", "a file")
    .addOption(new Option("--json", "print the differences as JSON"))
    .addOption(new Option("--tensors", "leave metadata out"))
    .addOption(new Option("--values", "decode tensors that differ, and show by how much"))
    .action((first: string, second: string, options: DiffCommandOptions) =>
      withFiles(first, ([a]) => withFiles(second, ([b]) => diff(a, b, options))),
    );
}

async function diff(a: InspectedFile, b: InspectedFile, options: DiffCommandOptions): Promise<void> {
  const { json = false, tensors: tensorsOnly = false, values = false } = options;
  const found = await withInterrupt((signal) => diffFiles(a, b, { values, signal }));
  const difference = tensorsOnly ? { ...found, metadata: [] } : found;
  const count = difference.tensors.length + difference.metadata.length;
  if (count > 0) process.exitCode = 1;
  process.stdout.write(
    json ? `${JSON.stringify(difference, null, 2)}\n` : formatDifference(difference, tensorsOnly),
  );
}

function formatDifference({ tensors, metadata }: FileDifference, tensorsOnly: boolean): string {
  if (tensors.length + metadata.length === 0) {
    return tensorsOnly ? "the same tensors\n" : "the same metadata and tensors\n";
  }
  const lines = metadata.map(
    ({ key, first, second }) => `metadata ${escapeControls(key)}: ${shorten(first)} | ${shorten(second)}`,
  );
  return `${[...lines, ...tensors.map(formatTensor)].join("\n")}\n`;
}

function formatTensor({ name, what, first, second, values }: TensorDifference): string {
  const distance = values
    ? `; values differ by ${values.largest.toPrecision(4)} at most, ${values.relative.toPrecision(4)} relative`
    : "";
  return `tensor ${escapeControls(name)}: ${what}: ${first ?? "-"} | ${second ?? "-"}${distance}`;
}

function shorten(value: unknown): string {
  const text = value === undefined ? "-" : escapeControls(JSON.stringify(value));
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
