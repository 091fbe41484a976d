/** Long-running commands in processes of their own, as a user has them. */

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { vi } from "vitest";
import { runProgram } from "../src/cli/program.js";

const root = fileURLToPath(new URL("..", import.meta.url));

export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  /** What it has written so far. */
  readonly out: { stdout: string; stderr: string };
  /** Resolves to the match once standard output has it; rejects when the process ends before. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Exit code and signal. */
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
}

export function start(args: readonly string[], env: Record<string, string> = {}, cwd = root): Running {
  const child = spawn(process.execPath, [`${root}/dist/cli/main.js`, ...args], {
    cwd,
    env: { ...process.env, ...env },
  });
  const out = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out.stdout += text;
    for (const listener of listeners) listener();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    out.stderr += text;
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal })),
  );
  const waitFor = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(out.stdout);
        if (!match) return;
        listeners.delete(look);
        resolve(match);
      };
      listeners.add(look);
      look();
      void ended.then(({ code }) => reject(new Error(`ended with ${code}: ${out.stdout}${out.stderr}`)));
    });
  return { child, out, waitFor, ended };
}

/** Runs a command to its end in this process: its exit code and what it wrote. */
export async function isq(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      written[name] += text;
      return true;
    }),
  );
  try {
    return { status: await runProgram(args), ...written };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** A server that has its model; the port is a free one. */
export async function startServing(
  args: readonly string[],
  env: Record<string, string> = {},
  cwd = root,
): Promise<Running & { url: string }> {
  const running = start(["serve", "--port", "0", ...args], env, cwd);
  const [, url] = await running.waitFor(/listening on (\S+)\n/);
  await running.waitFor(/ready: /);
  return { ...running, url };
}
