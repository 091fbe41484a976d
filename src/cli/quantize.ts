/** `isq quantize`: a model from files to one file. Interrupted, it goes on where it was. */

import { type Command, Option } from "commander";
import { formatPlan } from "../report/plan-text.js";
import { saveFormatOf } from "../write-model.js";
import { createWorkProgress, withInterrupt } from "./build.js";
import {
  addModelOptions,
  addQuantizationOptions,
  addRuntimeOptions,
  type BuildOptions,
  createBuilder,
} from "./options.js";

interface QuantizeOptions extends BuildOptions {
  readonly output: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly force?: boolean;
  readonly restart?: boolean;
  readonly receipt?: string | true;
}

export function addQuantizeCommand(program: Command): void {
  const command = program.command("quantize").description("quantize a model into a GGUF or safetensors file");
  addModelOptions(addRuntimeOptions(addQuantizationOptions(command)))
    .requiredOption("-o, --output <file>", "the file to write: NAME.gguf or NAME.safetensors")
    .addOption(new Option("--dry-run", "say what would be done, and write nothing"))
    .addOption(new Option("--json", "print the plan or the report as JSON"))
    .addOption(new Option("--force", "replace a file that is there"))
    .addOption(new Option("--restart", "forget what an interrupted run has written"))
    .option(
      "--receipt [file]",
      "write hashes and byte ranges of every tensor's source and output; to OUTPUT.receipt.json when no file is named",
    )
    .action(async (options: QuantizeOptions) => {
      saveFormatOf(options.output);
      await (options.dryRun ? showPlan(options) : quantize(options));
    });
}

async function showPlan(options: QuantizeOptions): Promise<void> {
  const { plan, byteLength, peakByteLength } = await createBuilder(options).planSave(options.output);
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ plan, byteLength, peakByteLength }, null, 2)}\n`);
    return;
  }
  process.stdout.write(formatPlan(plan));
  process.stdout.write(
    `${options.output}: ${byteLength} bytes; tensors take at most ${peakByteLength} bytes of memory at once\n`,
  );
}

async function quantize({
  output,
  force = false,
  restart = false,
  receipt: receiptFlag,
  ...options
}: QuantizeOptions): Promise<void> {
  const { end, ...progress } = createWorkProgress();
  const receipt = receiptFlag === true ? `${output}.receipt.json` : receiptFlag;
  const report = await withInterrupt((signal) =>
    createBuilder(options)
      .save(output, {
        overwrite: force,
        restart,
        signal,
        ...(receipt !== undefined && { receipt }),
        ...progress,
      })
      .finally(end),
  );
  const { plan, path, byteLength, resumedTensors, seconds } = report;
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ path, byteLength, resumedTensors, receipt, plan }, null, 2)}\n`);
    return;
  }
  const resumed = resumedTensors > 0 ? `, ${resumedTensors} tensors of them from an interrupted run` : "";
  process.stdout.write(
    `${path}: ${byteLength} bytes, ${plan.totals.quantizedTensors} of ${plan.totals.tensors} tensors quantized, ` +
      `${plan.totals.bitsPerWeight.toFixed(3)} bits per weight${resumed}, ${seconds.toFixed(1)} s\n`,
  );
}
