/** What writing outputs of any format takes and reports. */

import type { ByteSource } from "./files/source.js";
import type { AlgorithmChoice, Plan } from "./plan.js";
import type { QuantizeReport } from "./quantize.js";
import type { SaveFile, SaveOptions } from "./save.js";

export interface WriteOptions extends SaveOptions {
  readonly algorithm?: AlgorithmChoice;
  /** Replace files that are there. */
  readonly overwrite?: boolean;
  /** Forget what an earlier, interrupted run has written. */
  readonly restart?: boolean;
  /** Where to write the output's receipt, or true for `OUTPUT.receipt.json`; see receipt.ts. It is there before the output is. */
  readonly receipt?: string | true;
  /** UQFF: a shard grows to this and not beyond; 10 GiB when absent. */
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
