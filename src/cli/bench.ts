/** `isq bench`: tokens per second of prompts and of continued texts, as mistralrs-bench measures them. */

import type { Command } from "commander";
import { IsqError } from "../errors.js";
import { formatTable } from "../report/text.js";
import type { TextModel } from "../run.js";
import { describeBackend, withModel } from "./build.js";
import {
  addModelForm,
  addQuantizationOptions,
  addRuntimeOptions,
  addTextOptions,
  type BuildOptions,
  checkImportanceUse,
  createBuilder,
  parseCount,
} from "./options.js";

interface BenchFlags {
  readonly nPrompt: number;
  readonly nGen: number;
  readonly concurrency: readonly number[];
  readonly repetitions: number;
  readonly json?: boolean;
}

/** One line of the table. */
interface Measurement {
  readonly test: string;
  readonly concurrency: number;
  /** Of each repetition, for one text. */
  readonly tokensPerSecond: readonly number[];
}

/** First of the token ids that prompts are made of. */
const FIRST_TOKEN = 1000;

export function addBenchCommand(program: Command): void {
  const command = program
    .command("bench")
    .description("measure tokens per second of prompts (pp) and of continued texts (tg)")
    .option("-p, --n-prompt <tokens>", "length of the prompts; 0 skips them", parseCount(0), 512)
    .option("-g, --n-gen <tokens>", "tokens to continue by; 0 skips that", parseCount(0), 128)
    .option("-c, --concurrency <counts>", "texts at the same time, separated by commas", parseCounts, [1])
    .option("-r, --repetitions <count>", "how often each is measured", parseCount(1), 5)
    .option("--json", "print the results as JSON");
  addTextOptions(addRuntimeOptions(addQuantizationOptions(command)), { n: true });
  addModelForm<BenchFlags & BuildOptions>(command, async (options) => {
    checkImportanceUse(options);
    if (options.nPrompt === 0 && options.nGen === 0) {
      throw new IsqError("option/conflict", "--n-prompt 0 and --n-gen 0 leave nothing to measure", {
        field: "nPrompt",
      });
    }
    const { paGpuMem, paGpuMemUsage, paCtxtLen = neededPositions(options), ...rest } = options;
    const sized = paGpuMem !== undefined || paGpuMemUsage !== undefined;
    const builder = createBuilder({
      ...rest,
      ...(sized ? { paGpuMem, paGpuMemUsage } : { paCtxtLen }),
      maxSeqs: Math.max(options.maxSeqs ?? 1, ...options.concurrency),
      prefixCacheN: 0, // each repetition computes all of its prompt
    } as BuildOptions);
    await withModel(builder, (model, signal) => bench(model, options, signal));
  });
}

function parseCounts(value: string): number[] {
  const parse = parseCount(1, 4096);
  return value.split(",").map((count) => parse(count.trim()));
}

function neededPositions({ nPrompt, nGen, concurrency }: BenchFlags): number {
  const longest = Math.max(nPrompt + 1, nGen + 8);
  return Math.max(...concurrency) * (longest + 32);
}

async function bench(model: TextModel, flags: BenchFlags & BuildOptions, signal: AbortSignal): Promise<void> {
  const { nPrompt, nGen, concurrency, repetitions } = flags;
  const longest = Math.max(nPrompt, nGen);
  if (longest + 8 > model.contextLength) {
    const message = `${longest} tokens and a few more do not fit the model's context of ${model.contextLength}`;
    const field = nPrompt >= nGen ? "nPrompt" : "nGen";
    throw new IsqError("option/invalid", message, { field, value: longest, limit: model.contextLength - 8 });
  }
  await runTexts(model, { count: 1, prompt: model.promptTokens({ prompt: "Hello!" }), maxTokens: 5, signal });
  const results: Measurement[] = [];
  const measure = async (test: string, count: number, tokens: number, run: () => Promise<number>) => {
    const tokensPerSecond: number[] = [];
    for (let turn = 0; turn < repetitions; turn++) {
      tokensPerSecond.push(tokens / (await run()));
      process.stderr.write(`${test} × ${count}: ${turn + 1}/${repetitions}\n`);
    }
    results.push({ test, concurrency: count, tokensPerSecond });
  };
  const prompt = Array.from({ length: nPrompt }, (_, i) => (FIRST_TOKEN + i) % model.vocabulary);
  const start = model.promptTokens({ prompt: "Rust" });
  for (const count of concurrency) {
    if (nGen > 0) {
      await measure(`tg ${nGen}`, count, nGen, () =>
        runTexts(model, { count, prompt: start, maxTokens: nGen, signal }),
      );
    }
    if (nPrompt > 0) {
      await measure(`pp ${nPrompt}`, count, nPrompt, () =>
        runTexts(model, { count, prompt, maxTokens: 1, signal }),
      );
    }
  }
  print(model, results, flags);
}

interface Texts {
  readonly count: number;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly signal: AbortSignal;
}

/** Seconds until all of the texts are done. */
async function runTexts(model: TextModel, { count, prompt, maxTokens, signal }: Texts): Promise<number> {
  const started = performance.now();
  const run = () => model.generate({ tokens: prompt, maxTokens, ignoreEnd: true, signal });
  await Promise.all(Array.from({ length: count }, run));
  return (performance.now() - started) / 1000;
}

function print(model: TextModel, results: readonly Measurement[], flags: BenchFlags & BuildOptions): void {
  const backend = describeBackend(model);
  const isq = model.plan.requested ?? "none";
  const rows = results.map(({ tokensPerSecond, ...rest }) => {
    const mean = tokensPerSecond.reduce((sum, one) => sum + one, 0) / tokensPerSecond.length;
    const variance =
      tokensPerSecond.reduce((sum, one) => sum + (one - mean) ** 2, 0) / tokensPerSecond.length;
    return { ...rest, mean, deviation: Math.sqrt(variance), throughput: mean * rest.concurrency };
  });
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ model: flags.modelId, isq, backend, rows }, null, 2)}\n`);
    return;
  }
  const head = ["model", "isq", "backend", "test", "t/s", "ms/t", "concurrency", "throughput/s"];
  const cells = rows.map(({ test, concurrency, mean, deviation, throughput }) => [
    ...[flags.modelId, isq, backend, test, `${mean.toFixed(3)}±${deviation.toFixed(3)}`],
    ...[(1000 / mean).toFixed(3), String(concurrency), throughput.toFixed(3)],
  ]);
  process.stdout.write(`${formatTable(head, cells)}\n`);
}
