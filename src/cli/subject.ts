/** Reading answers from a pipe or from a program that is run for it: silence and crashes are judged, not waited for. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { makeCase } from "../oracle/cases.js";
import type { Judge, Verdict } from "../oracle/judge.js";
import type { VectorSpec } from "../oracle/spec.js";
import { type StreamFormat, writeCase, writeHeader } from "../oracle/wire.js";

export interface TimeLimits {
  /** Seconds in which nothing arrives. */
  readonly silence: number;
  /** Seconds for everything. */
  readonly total: number;
}

/** What a program wrote to standard error, for the verdict: its last part. */
const STDERR_CHARACTERS = 500;
/** Seconds for a program to end after its last answer, and for its pipe to close after its end. */
const GRACE = 10;

/** Writes header and cases; waits for a slow reader. Stops quietly when the reader has gone. */
export async function writeVectors(out: Writable, format: StreamFormat, spec: VectorSpec): Promise<void> {
  let gone = false;
  out.on("error", () => {
    gone = true; // EPIPE: the reader ended first, which is for its judge to say
  });
  const write = async (bytes: Uint8Array) => {
    if (gone || out.destroyed || out.write(bytes)) return;
    const waiting = new AbortController();
    await Promise.race(["drain", "close"].map((event) => once(out, event, { signal: waiting.signal }))).catch(
      () => {},
    );
    waiting.abort();
  };
  await write(writeHeader(format, spec));
  for (let i = 0; i < spec.count && !gone && !out.destroyed; i++)
    await write(writeCase(format, makeCase(spec, i)));
}

export interface Reading {
  readonly complaints: string[];
  /** The stream ended by itself; otherwise its writer may be running still. */
  readonly ended: boolean;
}

/** Feeds the judge until the stream ends, nothing more can matter, or time is up. */
export async function readAnswers(input: Readable, judge: Judge, limits: TimeLimits): Promise<Reading> {
  const deadline = performance.now() + limits.total * 1000;
  const chunks = input[Symbol.asyncIterator]();
  for (;;) {
    const seconds = Math.min(limits.silence, (deadline - performance.now()) / 1000);
    const next = await withTimeout(chunks.next(), seconds);
    if (next === undefined) {
      const what =
        performance.now() < deadline
          ? `nothing arrived for ${limits.silence} s`
          : `the ${limits.total} s for everything were over`;
      return { complaints: [`${what} after ${judge.answered} answers`], ended: false };
    }
    if (next.done) return { complaints: [], ended: true };
    if (!judge.push(next.value as Uint8Array)) return { complaints: [], ended: false };
  }
}

/** The value, or undefined when it takes longer. */
async function withTimeout<T>(promise: Promise<T>, seconds: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), Math.max(0, seconds * 1000));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a program with the vectors on its standard input, and judges what it prints and how it ends. */
export async function judgeProgram(
  command: readonly [string, ...string[]],
  spec: VectorSpec,
  format: StreamFormat,
  judge: Judge,
  limits: TimeLimits,
): Promise<Verdict> {
  const [file, ...args] = command;
  // A group of its own, so that what the program started ends with it.
  const child = spawn(file, args, {
    stdio: ["pipe", "pipe", "pipe"],
    detached: process.platform !== "win32",
  });
  const end = () => killGroup(child);
  const interrupt = () => {
    end();
    process.exit(130);
  };
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-STDERR_CHARACTERS);
  });
  const ended = new Promise<string | undefined>((resolve) => {
    child.once("error", (error) => resolve(`${file} could not be run: ${error.message}`));
    child.once("exit", (code, signal) => resolve(describeExit(code, signal)));
  });
  // What a program left running may hold the pipe open: its end counts, not the pipe's.
  ended.then(() => setTimeout(() => child.stdout.destroy(), GRACE * 1000).unref());
  try {
    const fed = writeVectors(child.stdin, format, spec).then(() => void child.stdin.end());
    const { complaints, ended: itself } = await readAnswers(child.stdout, judge, limits).catch(
      (): Reading => ({ complaints: [], ended: true }), // its pipe was closed for it, after its end
    );
    const how = itself ? await withTimeout(ended, GRACE) : undefined;
    if (itself && how === undefined && isRunning(child)) {
      complaints.push(`it was still running ${GRACE} s after its output ended`);
    }
    end();
    child.stdin.destroy();
    await fed;
    if (how) complaints.push(how);
    if (complaints.length > 0 && said.trim()) complaints.push(`its standard error ends: ${said.trim()}`);
    return judge.finish(complaints);
  } finally {
    end();
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
}

const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

function describeExit(code: number | null, signal: NodeJS.Signals | null): string | undefined {
  if (signal) return `it was ended by ${signal}`;
  return code === 0 ? undefined : `it ended with exit code ${code}`;
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    if (process.platform === "win32") child.kill("SIGKILL");
    else process.kill(-child.pid, "SIGKILL");
  } catch {
    // it has ended already
  }
}
