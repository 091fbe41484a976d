/** What writing outputs of any format takes and reports. */

import type { ByteSource } from "./files/source.js";
import type { AlgorithmChoice, Plan } from "./plan.js";
import type { Provenance } from "./provenance.js";
import type { QuantizeReport } from "./quantize.js";
import { formatReceipt, makeReceipt, type ReceiptRequest } from "./receipt.js";
import type { SaveFile, SaveOptions } from "./save.js";

export interface WriteOptions extends SaveOptions {
  readonly algorithm?: AlgorithmChoice;
  /** Replace files that are there. */
  readonly overwrite?: boolean;
  /** Forget what an earlier, interrupted run has written. */
  readonly restart?: boolean;
  /** Where to write the output's receipt, or true for `OUTPUT.receipt.json`; see receipt.ts. It is there before the output is. */
  readonly receipt?: string | true;
  /** A shard grows to this and not beyond. When absent: 10 GiB in UQFF, and GGUF is one file. */
  readonly shardByteLength?: number;
}

export interface WriteReport extends QuantizeReport {
  /** Of the file; of the first shard. */
  readonly path: string;
  /** Of all files. */
  readonly byteLength: number;
  /** Tensors that were there from an interrupted run. */
  readonly resumedTensors: number;
  /** The file's receipt, where one was asked for. */
  readonly receipt?: string;
}

/** What one output is to be. */
export interface WriteJob {
  readonly plan: Plan;
  readonly path: string;
}

/** A file of a set, by its name in the folder. */
export interface NamedFile {
  readonly name: string;
  readonly file: SaveFile;
}

/** Where the receipt of an output goes; undefined when none is wanted. */
export function receiptPath(path: string, receipt: WriteOptions["receipt"]): string | undefined {
  return receipt === true ? `${path}.receipt.json` : receipt;
}

/** Of all bytes that a layout fixes. */
export async function hashFixed({ fixed }: SaveFile): Promise<string> {
  const { openHasher } = await import("#platform");
  const hasher = openHasher();
  for (const { bytes } of fixed) hasher.update(bytes);
  return hasher.finish();
}

/** Opens a written file to see that it can be. */
export async function withFile(path: string, check: (source: ByteSource) => Promise<unknown>): Promise<void> {
  const { openFile } = await import("#platform");
  const source = await openFile(path);
  try {
    await check(source);
  } finally {
    await source.close?.();
  }
}

/** Of what a set will be. */
export async function fingerprintOf(set: readonly NamedFile[], provenance: Provenance): Promise<Provenance> {
  const { openHasher } = await import("#platform");
  const hasher = openHasher();
  for (const { name, file } of set) {
    hasher.update(new TextEncoder().encode(`${name} ${file.byteLength} ${await hashFixed(file)}\n`));
  }
  return { ...provenance, files: hasher.finish() };
}

/** The receipt of a set whose files do not have their names yet. */
export async function writeSetReceipt(
  receipt: string,
  files: readonly { readonly name: string; readonly path: string }[],
  request: Omit<ReceiptRequest, "output">,
): Promise<void> {
  const { openFile, writeSmallFile } = await import("#platform");
  const open: ByteSource[] = [];
  try {
    for (const { path } of files) open.push(await openFile(path));
    const output = open.map((source, i) => ({ ...source, name: files[i].name }));
    await writeSmallFile(receipt, formatReceipt(await makeReceipt({ ...request, output })));
  } finally {
    for (const source of open) await source.close?.();
  }
}

/** The folder of an output, and its name without the ending, which those of its shards begin with. */
export function splitPath(path: string): { folder: string; stem: string } {
  const [, folder = "./", stem] = /^(.*[/\\])?([^/\\]*)\.[^./\\]+$/.exec(path)!;
  return { folder: folder.replace(/(?<=.)[/\\]$/, ""), stem };
}
