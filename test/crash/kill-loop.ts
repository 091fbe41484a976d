/** Kills `isq quantize` (SIGKILL) after some time, again and again, and lets it finish. */

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs the command; with a time in milliseconds it is killed after that. Returns whether it finished. */
function quantize(output: string, killAfter?: number): Promise<boolean> {
  const sizes = output.endsWith(".uqff") ? ["--shard-size", "1500000"] : [];
  const args = ["quantize", "-m", "models/tiny-mistral", "--isq", "Q5K", "-o", output, ...sizes];
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], { cwd: root, stdio: "ignore" });
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfter);
  return new Promise((resolve, reject) =>
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      if (code === 0 || signal === "SIGKILL") resolve(code === 0);
      else reject(new Error(`quantize ended with ${signal ?? code}`));
    }),
  );
}

/** The files of a folder that look finished. */
function finished(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder).filter((name) => !/\.partial(\.journal)?$/.test(name));
  return new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
}

/** Kills `kills` runs in all, each at another moment of its life; every output must end as one that was never killed. */
export async function killLoop(
  extension: string,
  kills: number,
): Promise<{ outputs: number; kills: number }> {
  const parent = mkdtempSync(join(tmpdir(), "isq-"));
  const [first, folder] = ["whole", "out"].map((name) => join(parent, name));
  for (const each of [first, folder]) mkdirSync(each);
  const started = performance.now();
  await quantize(join(first, `m.${extension}`));
  const milliseconds = performance.now() - started;
  const whole = finished(first);
  const output = join(folder, `m.${extension}`);
  let [outputs, done] = [0, 0];
  while (done < kills) {
    // Golden-ratio steps spread the moments evenly, over the last three quarters: node starts up before.
    const share = 0.25 + 0.75 * ((done * 0.618_033_988_75) % 1);
    const exited = await quantize(output, share * milliseconds);
    // Killed behind its end, it has finished all the same.
    const ended = readdirSync(folder).sort().join() === [...whole.keys()].sort().join();
    expect(ended || !exited).toBe(true);
    for (const [name, bytes] of finished(folder)) expect(whole.get(name)?.equals(bytes), name).toBe(true);
    if (!exited) done++;
    if (!ended && done < kills && done % 4 !== 0) continue; // the next run goes on, and is killed again
    if (!ended) await quantize(output);
    expect(readdirSync(folder).sort()).toEqual([...whole.keys()].sort());
    for (const [name, bytes] of finished(folder)) expect(whole.get(name)?.equals(bytes), name).toBe(true);
    outputs++;
    for (const name of whole.keys()) rmSync(join(folder, name));
  }
  rmSync(parent, { recursive: true });
  return { outputs, kills: done };
}
