/** `isq vectors`: hard inputs for other encoders, decoders and dot products, and the judge of what they answer. */

import { type Command, Option } from "commander";
import { createJudge, type Verdict } from "../oracle/judge.js";
import { makeSpec, OPERATIONS, type SpecOptions, type VectorSpec } from "../oracle/spec.js";
import { formatVerdict } from "../oracle/verdict-text.js";
import { STREAM_FORMATS, type StreamFormat } from "../oracle/wire.js";
import { TYPE_NAMES } from "../quants/table.js";
import { parseCount, parseNumber } from "./options.js";
import { judgeProgram, readAnswers, writeVectors } from "./subject.js";

interface FormatOptions {
  readonly format: StreamFormat;
}

interface JudgeFlags {
  readonly explain?: boolean;
  readonly json?: boolean;
  readonly silence: number;
  readonly timeLimit: number;
}

export function addVectorsCommand(program: Command): void {
  const vectors = program
    .command("vectors")
    .description("check another encoder, decoder or dot product against the contract, through a pipe");
  addGen(vectors);
  addCheck(vectors);
  addRun(vectors);
}

function addSpecOptions(command: Command): Command {
  return command
    .addOption(new Option("--operation <name>", "what is asked").choices([...OPERATIONS]).default("encode"))
    .requiredOption("--type <type>", `one of ${TYPE_NAMES.join(" ")}`)
    .option(
      "--algorithm <name>",
      "encoder lineage, or order of a dot product; the type's default when left out",
    )
    .option("--importance", "encode with an importance vector")
    .option("--seed <n>", "the same seed gives the same cases", parseCount(0), 0)
    .option("--count <n>", "number of cases", parseCount(1), 1000)
    .option("--columns <n>", "elements of each case", parseCount(1), 256);
}

const formatOption = () =>
  new Option("--format <name>", "JSON lines or fixed-size binary records")
    .choices([...STREAM_FORMATS])
    .default("json");

function addJudgeOptions(command: Command): Command {
  return command
    .option("--silence <seconds>", "give up when nothing arrives for so long", parseNumber, 60)
    .option("--time-limit <seconds>", "give up after so long altogether", parseNumber, 3600)
    .option(
      "--explain",
      "say of the first wrong answers what the contract computed and which known cause fits",
    )
    .option("--json", "print the verdict as JSON");
}

function addGen(vectors: Command): void {
  addSpecOptions(vectors.command("gen").description("print a header and cases"))
    .addOption(formatOption())
    .action(async (options: SpecOptions & FormatOptions) => {
      await writeVectors(process.stdout, options.format, makeSpec(options));
    });
}

function addCheck(vectors: Command): void {
  const command = vectors
    .command("check")
    .description("judge answers on standard input: exit code 0 when all are right, 1 otherwise");
  addJudgeOptions(command).action(async (options: JudgeFlags) => {
    const judge = createJudge({ explain: options.explain ?? false });
    const limits = { silence: options.silence, total: options.timeLimit };
    const { complaints } = await readAnswers(process.stdin, judge, limits);
    process.stdin.destroy();
    report(judge.finish(complaints), options);
  });
}

function addRun(vectors: Command): void {
  const command = vectors
    .command("run")
    .description("run a program on cases and judge its answers and its end: exit code 0 or 1")
    .argument("<command...>", "the program and its arguments, after --");
  addJudgeOptions(addSpecOptions(command).addOption(formatOption())).action(
    async (words: [string, ...string[]], options: SpecOptions & FormatOptions & JudgeFlags) => {
      const spec: VectorSpec = makeSpec(options);
      const judge = createJudge({ expect: spec, explain: options.explain ?? false });
      const limits = { silence: options.silence, total: options.timeLimit };
      report(await judgeProgram(words, spec, options.format, judge, limits), options);
    },
  );
}

function report(verdict: Verdict, options: JudgeFlags): void {
  process.stdout.write(options.json ? `${JSON.stringify(verdict, null, 2)}\n` : formatVerdict(verdict));
  if (!verdict.ok) process.exitCode = 1;
}
