/** `isq sensitivity`: which tensor hurts most when it alone is quantized, and a topology for a target size. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { IsqError } from "../errors.js";
import { writeSmallFile } from "../node/small-file.js";
import { formatTopology } from "../propose.js";
import type { IsqType } from "../quants/table.js";
import { sensitivityPage, sensitivityText } from "../report/sensitivity.js";
import { checkPlace } from "./imatrix.js";
import {
  addOutputOptions,
  addTextOptions,
  addVersionOptions,
  describeText,
  type OutputFlags,
  type TextFlags,
  type TypesFlags,
  withMeasuring,
  writeResults,
} from "./measure.js";
import { addModelForm, parseNumber, readTextFile } from "./options.js";
import { createProgress } from "./progress.js";

const DEFAULT_TYPES: readonly IsqType[] = ["Q2K", "Q3K", "Q4K", "Q5K", "Q6K", "Q8_0"];

type SensitivityFlags = TypesFlags &
  TextFlags &
  OutputFlags & {
    readonly targetBits?: number;
    readonly embeddings?: boolean;
    readonly output?: string;
    readonly force?: boolean;
  };

export function addSensitivityCommand(program: Command): void {
  const command = program
    .command("sensitivity")
    .description("measure which tensor hurts most when it alone is quantized, and propose types for a size");
  addTextOptions(command, { chunkTokens: 256, chunks: 1 });
  addOutputOptions(addVersionOptions(command))
    .option(
      "--target-bits <number>",
      "propose a mix of the types for so many bits per weight of the whole model",
      parseBits,
    )
    .option("--embeddings", "also the embeddings, which ISQ leaves alone by itself")
    .option("-o, --output <file>", "write what is proposed as a topology file")
    .addOption(new Option("--force", "replace a file that is there"));
  addModelForm<SensitivityFlags>(command, measure);
}

function parseBits(value: string): number {
  const bits = parseNumber(value);
  if (bits > 0 && bits <= 32) return bits;
  throw new InvalidArgumentError("it must be above 0 and at most 32.");
}

async function measure(flags: SensitivityFlags): Promise<void> {
  const { output, targetBits, embeddings = false, topology, isq: types = DEFAULT_TYPES } = flags;
  if (topology !== undefined) {
    const message = "a topology decides types, and here they are tried out; leave --topology out";
    throw new IsqError("option/conflict", message, { field: "topology" });
  }
  if (output !== undefined) {
    if (targetBits === undefined) {
      throw new IsqError("option/invalid", "--output needs --target-bits", {
        field: "output",
        value: output,
      });
    }
    await checkPlace(output, flags.force ?? false);
  }
  const text = await readTextFile(flags.file);
  await withMeasuring(flags, async (measuring) => {
    const { options, measured } = describeText(flags, flags.modelId, measuring.backend);
    const progress = createProgress("measuring");
    const result = await measuring
      .createBuilder(types[0])
      .measureSensitivity(text, {
        ...options,
        types,
        embeddings,
        ...(targetBits !== undefined && { targetBits }),
        signal: measuring.signal,
        onProgress: ({ done, total, part, type, divergence }) =>
          progress.update(done, total, `${part} ${type}: ${divergence.toExponential(2)}`),
      })
      .finally(() => progress.end());
    const { proposal } = result;
    if (output !== undefined && proposal) {
      const bits = proposal.bitsPerWeight.toFixed(4);
      const comment = [
        `${measured.model}: ${bits} bits per weight, KL divergence ${proposal.divergence.toExponential(3)} nats`,
        `measured on ${result.predictions} tokens of ${measured.text}`,
      ];
      await writeSmallFile(output, formatTopology(proposal, comment));
    }
    await writeResults(flags, measured, result, {
      text: () => sensitivityText(result) + (output === undefined ? "" : `\n\nproposed types: ${output}`),
      page: () => sensitivityPage(measured, result),
    });
  });
}
