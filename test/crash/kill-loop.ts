/** Kills `isq quantize` (SIGKILL) after some time, again and again, and lets it finish. */

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Run {
  readonly finished: boolean;
  readonly milliseconds: number;
}

/** Runs the command; with a time in milliseconds it is killed after that. */
function quantize(output: string, shards: boolean, killAfter?: number): Promise<Run> {
  const sizes = shards ? ["--shard-size", "1500000"] : [];
  const args = ["quantize", "-m", "models/tiny-mistral", "--isq", "Q5K", "-o", output, ...sizes];
  const started = performance.now();
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], { cwd: root, stdio: "ignore" });
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfter);
  return new Promise((resolve, reject) =>
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      const milliseconds = performance.now() - started;
      if (code === 0 || signal === "SIGKILL") resolve({ finished: code === 0, milliseconds });
      else reject(new Error(`quantize ended with ${signal ?? code}`));
    }),
  );
}

/** The files of a folder that look finished. */
function finished(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder).filter((name) => !isPartial(name));
  return new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
}

const isPartial = (name: string) => /\.partial(\.journal)?$/.test(name);

export const KINDS: Readonly<Record<string, readonly [extension: string, shards: boolean]>> = {
  gguf: ["gguf", false],
  "gguf shards": ["gguf", true],
  safetensors: ["safetensors", false],
  "uqff shards": ["uqff", true],
};

/**
 * Kills `kills` runs in all, each at another moment of its life; every output must end as one that was never killed. `midway`
 * of them had begun to write. A kind is an ending of a name, and whether the output is in shards.
 */
export async function killLoop(
  [extension, shards]: readonly [extension: string, shards: boolean],
  kills: number,
): Promise<{ outputs: number; kills: number; midway: number }> {
  const parent = mkdtempSync(join(tmpdir(), "isq-"));
  const [first, folder] = ["whole", "out"].map((name) => join(parent, name));
  for (const each of [first, folder]) mkdirSync(each);
  let { milliseconds } = await quantize(join(first, `m.${extension}`), shards);
  const whole = finished(first);
  const output = join(folder, `m.${extension}`);
  const finish = async () => {
    milliseconds = Math.max(milliseconds, (await quantize(output, shards)).milliseconds);
  };
  let [outputs, done, midway] = [0, 0, 0];
  for (let run = 0; done < kills; run++) {
    // Golden-ratio steps spread the moments evenly, over the last three quarters: node starts up before.
    const share = 0.25 + 0.75 * ((run * 0.618_033_988_75) % 1);
    const ending = await quantize(output, shards, share * milliseconds);
    // Killed behind its end, it has finished all the same.
    const ended = readdirSync(folder).sort().join() === [...whole.keys()].sort().join();
    expect(ended || !ending.finished).toBe(true);
    for (const [name, bytes] of finished(folder)) expect(whole.get(name)?.equals(bytes), name).toBe(true);
    if (ending.finished)
      milliseconds = ending.milliseconds; // faster than thought: the machine has less to do now
    else done++;
    if (!ended && readdirSync(folder).some(isPartial)) midway++;
    if (!ended && done < kills && done % 4 !== 0) continue; // the next run goes on, and is killed again
    if (!ended) await finish();
    expect(readdirSync(folder).sort()).toEqual([...whole.keys()].sort());
    for (const [name, bytes] of finished(folder)) expect(whole.get(name)?.equals(bytes), name).toBe(true);
    outputs++;
    for (const name of whole.keys()) rmSync(join(folder, name));
  }
  rmSync(parent, { recursive: true });
  return { outputs, kills: done, midway };
}
