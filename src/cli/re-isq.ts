/** `isq re-isq`: another type for the model of a running server. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { IsqError } from "../errors.js";
import { TYPE_NAMES } from "../quants/table.js";
import { parseType } from "../quants/tensor.js";
import type { Job } from "../server/re-isq-jobs.js";
import { withInterrupt } from "./build.js";
import { createFlag } from "./options.js";
import { createProgress } from "./progress.js";

interface ReIsqFlags {
  readonly url: string;
  readonly apiKey?: string;
  readonly from?: "source" | "resident";
  readonly wait: boolean;
  readonly json?: boolean;
}

const POLL_MS = 200;

export function addReIsqCommand(program: Command): void {
  program
    .command("re-isq")
    .description("quantize the model of a running server to another type, while it answers")
    .argument("<type>", `one of ${TYPE_NAMES.join(" ")}`, (value) =>
      createFlag("isq").parseArg!(value, undefined),
    )
    .option("-u, --url <url>", "where the server is", "http://127.0.0.1:1234")
    .addOption(createFlag("apiKey"))
    .addOption(
      new Option(
        "--from <place>",
        "where the values come from; the source files when left out, if they are there",
      ).choices(["source", "resident"]),
    )
    .option("--no-wait", "begin, and do not wait until it is done")
    .option("--json", "print the job as JSON")
    .action((type: string, flags: ReIsqFlags) => withInterrupt((signal) => reIsq(type, flags, signal)));
}

async function reIsq(type: string, flags: ReIsqFlags, signal: AbortSignal): Promise<void> {
  const from = flags.from && { from: flags.from };
  let job = await ask(flags, "POST", signal, { ggml_type: parseType(type), wait: false, ...from });
  const { id } = job;
  const progress = createProgress(`${type} on ${flags.url}`);
  while (flags.wait && job.status === "running") {
    progress.update(job.progress.done, job.progress.total, job.progress.tensor ?? "");
    await sleep(POLL_MS, undefined, { signal });
    job = await ask(flags, "GET", signal);
    if (job.id === id) continue;
    const message = `job ${id} is over, and job ${job.id} runs; what became of it the server does not say any more`;
    throw new IsqError("server/refused", message, { file: flags.url, value: job.id });
  }
  progress.end();
  process.stdout.write(flags.json ? `${JSON.stringify(job, null, 2)}\n` : describe(job));
  if (job.status === "failed") process.exitCode = 1;
}

function describe({ id, type, status, report, error, failures }: Job): string {
  if (error) {
    const layers = failures.length > 0 ? `; ${failures.length} layers kept their weights` : "";
    return `job ${id} failed: ${error.message}${layers}\n`;
  }
  if (!report) return `job ${id} is ${status}; GET /re_isq tells how far it is\n`;
  const { tensors, totals, seconds, from } = report;
  return (
    `${type}: ${tensors.length} tensors changed in ${seconds.toFixed(1)} s from ${from} values, ` +
    `${totals.byteLength} bytes, ${totals.bitsPerWeight.toFixed(3)} bits per weight\n`
  );
}

/** Throws `server/unreachable`, and `server/refused` with what the server says. */
async function ask(
  { url, apiKey }: ReIsqFlags,
  method: "GET" | "POST",
  signal: AbortSignal,
  body?: object,
): Promise<Job> {
  const headers = {
    ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
    ...(body && { "content-type": "application/json" }),
  };
  const request = { method, headers, signal, ...(body && { body: JSON.stringify(body) }) };
  const response = await fetch(`${url.replace(/\/$/, "")}/re_isq`, request).catch((cause) => {
    if (signal.aborted) throw new IsqError("aborted", "interrupted; the server goes on");
    const reason = (cause.cause ?? cause).message;
    throw new IsqError(
      "server/unreachable",
      `no server answers at ${url}: ${reason}`,
      { file: url },
      { cause },
    );
  });
  const answer = (await response.json().catch(() => null)) as (Job & { error?: { message?: string } }) | null;
  if (response.ok && typeof answer?.id === "number") return answer;
  const message = answer?.error?.message ?? `it answered with status ${response.status}`;
  throw new IsqError("server/refused", `${url} refused: ${message}`, { file: url, value: response.status });
}
