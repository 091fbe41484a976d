/** `isq quantize`: a model from files to files. Interrupted, it goes on where it was. */

import { type Command, Option } from "commander";
import { formatPlan } from "../report/plan-text.js";
import { saveFormatOf } from "../write-model.js";
import { createWorkProgress, withInterrupt } from "./build.js";
import {
  addModelOptions,
  addRuntimeOptions,
  addTypesOptions,
  type BuildOptions,
  createBuilder,
  parseCount,
} from "./options.js";

interface QuantizeOptions extends Omit<BuildOptions, "isq"> {
  readonly isq?: readonly string[];
  readonly output: string;
  readonly shardSize?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly force?: boolean;
  readonly restart?: boolean;
  readonly receipt?: string | true;
}

export function addQuantizeCommand(program: Command): void {
  const command = program
    .command("quantize")
    .description("quantize a model into a GGUF or safetensors file, or into a set of files in GGUF or UQFF");
  addModelOptions(addRuntimeOptions(addTypesOptions(command)))
    .requiredOption(
      "-o, --output <file>",
      "what to write: NAME.gguf, NAME.safetensors or NAME.uqff; of several types, each puts its name before the ending",
    )
    .option(
      "--shard-size <bytes>",
      "most bytes of tensors in a shard, of GGUF or UQFF; when left out GGUF is one file, and a UQFF shard has 10 GiB at most",
      parseCount(1),
    )
    .addOption(new Option("--dry-run", "say what would be done, and write nothing"))
    .addOption(new Option("--json", "print the plan or the report as JSON"))
    .addOption(new Option("--force", "replace files that are there"))
    .addOption(new Option("--restart", "forget what an interrupted run has written"))
    .option(
      "--receipt [file]",
      "write hashes and byte ranges of every tensor's source and output; to OUTPUT.receipt.json when no file is named",
    )
    .action(async (options: QuantizeOptions) => {
      saveFormatOf(options.output, options.shardSize);
      await (options.dryRun ? showPlan(options) : quantize(options));
    });
}

/** A list for several types, the thing itself for one or none. */
function oneOrAll<Item>(items: readonly Item[]): Item | readonly Item[] {
  return items.length === 1 ? items[0] : items;
}

async function showPlan({ isq, output, json, ...options }: QuantizeOptions): Promise<void> {
  const planned = await createBuilder(options).planSaveTypes(output, isq ?? [null]);
  if (json) {
    process.stdout.write(`${JSON.stringify(oneOrAll(planned), null, 2)}\n`);
    return;
  }
  for (const { plan, path, byteLength, peakByteLength } of planned) {
    process.stdout.write(formatPlan(plan));
    process.stdout.write(
      `${path}: ${byteLength} bytes; tensors take at most ${peakByteLength} bytes of memory at once\n`,
    );
  }
}

async function quantize({ isq, output, ...options }: QuantizeOptions): Promise<void> {
  const { force = false, restart = false, json, shardSize, receipt, ...build } = options;
  const { end, ...progress } = createWorkProgress();
  const reports = await withInterrupt((signal) =>
    createBuilder(build)
      .saveTypes(output, isq ?? [null], {
        overwrite: force,
        restart,
        signal,
        ...(receipt !== undefined && { receipt }),
        ...(shardSize !== undefined && { shardByteLength: shardSize }),
        ...progress,
      })
      .finally(end),
  );
  if (json) {
    const plain = reports.map(({ path, byteLength, resumedTensors, receipt, plan }) => {
      return { path, byteLength, resumedTensors, ...(receipt && { receipt }), plan };
    });
    process.stdout.write(`${JSON.stringify(oneOrAll(plain), null, 2)}\n`);
    return;
  }
  for (const { plan, path, byteLength, resumedTensors, seconds } of reports) {
    const resumed = resumedTensors > 0 ? `, ${resumedTensors} tensors of them from an interrupted run` : "";
    process.stdout.write(
      `${path}: ${byteLength} bytes, ${plan.totals.quantizedTensors} of ${plan.totals.tensors} tensors quantized, ` +
        `${plan.totals.bitsPerWeight.toFixed(3)} bits per weight${resumed}, ${seconds.toFixed(1)} s\n`,
    );
  }
}
