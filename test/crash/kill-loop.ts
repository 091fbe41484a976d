/** Kills `isq quantize` (SIGKILL) after some time, again and again, and lets it finish. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs the command; with a time in milliseconds it is killed after that. Returns whether it finished. */
function quantize(output: string, killAfter?: number): Promise<boolean> {
  const args = ["quantize", "-m", "models/tiny-mistral", "--isq", "Q5K", "-o", output];
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], { cwd: root, stdio: "ignore" });
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfter);
  return new Promise((resolve) =>
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      expect(signal ?? code).toBe(signal === null ? 0 : "SIGKILL");
      resolve(code === 0);
    }),
  );
}

/** Kills `kills` runs in all, each at another moment of its life; every file must end as one that was never killed. */
export async function killLoop(extension: string, kills: number): Promise<{ files: number; kills: number }> {
  const folder = mkdtempSync(join(tmpdir(), "isq-"));
  const started = performance.now();
  await quantize(join(folder, `whole.${extension}`));
  const milliseconds = performance.now() - started;
  const whole = readFileSync(join(folder, `whole.${extension}`));
  const output = join(folder, `out.${extension}`);
  let [files, done] = [0, 0];
  while (done < kills) {
    // Golden-ratio steps spread the moments evenly, over the last three quarters: node starts up before.
    const share = 0.25 + 0.75 * ((done * 0.618_033_988_75) % 1);
    const finished = await quantize(output, share * milliseconds);
    if (existsSync(output)) expect(readFileSync(output).equals(whole)).toBe(true);
    if (!finished) done++;
    if (!finished && done < kills && done % 4 !== 0) continue; // the next run goes on, and is killed again
    if (!finished) await quantize(output);
    expect(readFileSync(output).equals(whole)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual([`out.${extension}`, `whole.${extension}`]);
    files++;
    rmSync(output);
  }
  return { files, kills: done };
}
