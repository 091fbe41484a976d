/** Peak memory of in-situ loading: what the promise in the README says, on a checkpoint of a gigabyte, in a process of its own. */

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSyntheticModel } from "./fixtures/synthetic.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MiB = 2 ** 20;

const MEASURE = `
  import { TextModelBuilder } from "isq";
  import { threads } from "isq/threads";
  const [folder, type, workers] = process.argv.slice(1);
  const backend = await threads({ workers: Number(workers) });
  await backend.quantize(type, new Float32Array(256).fill(1), { shape: [256] });
  const before = process.memoryUsage.rss();
  const model = await new TextModelBuilder(folder).withIsq(type).withBackend(backend).build();
  const peak = 1024 * process.resourceUsage().maxRSS;
  const { byteLength, elements } = model.plan.totals;
  const { text } = await model.generate({ tokens: [1, 2, 3], maxTokens: 2 });
  console.log(JSON.stringify({ before, peak, byteLength, elements, generated: typeof text }));
  await model.dispose();
  await backend.dispose();`;

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "isq-memory-"));
  const size = { layers: 7, width: 2048, hidden: 8704, vocabulary: 4096, heads: 16 };
  expect(await writeSyntheticModel(folder, size)).toBeGreaterThan(1e9);
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    copyFileSync(join(root, "models/tiny-mistral", file), join(folder, file));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each([
  ["Q4K", 2],
  ["HQQ4", 2],
] as const)("a gigabyte to %s with %d workers: never the model and its source at once", (type, workers) => {
  const output = execFileSync(
    process.execPath,
    ["--input-type=module", "-e", MEASURE, folder, type, String(workers)],
    { cwd: root, encoding: "utf8" },
  );
  const result = JSON.parse(output);
  // Groups of HQQ mix all rows, so that every worker needs the scales and zeros of all of them.
  const sides = type === "HQQ4" ? (workers - 1) * (result.elements / 64) * 8 : 0;
  const allowed = result.before + result.byteLength + sides + (64 + 32 * workers) * MiB;
  console.log(
    `${type}: peak ${(result.peak / MiB).toFixed(0)} MiB of ${(allowed / MiB).toFixed(0)} allowed; ` +
      `${(result.before / MiB).toFixed(0)} at the start, model ${(result.byteLength / MiB).toFixed(0)}`,
  );
  expect(result.generated).toBe("string");
  expect(result.peak).toBeLessThan(allowed);
});
