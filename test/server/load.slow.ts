/** The server under load, as long as it takes: see bench/server.mjs, which this runs. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startServing } from "../cli-serve-support.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

test("64 streaming clients for a minute: no error, no leak, and together at least twice as fast as one at a time", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["bench/server.mjs", "--no-write"], {
    cwd: root,
    encoding: "utf8",
  });
  console.log(stdout);
  expect(stdout + stderr).toMatch(/^PASS$/m);
  expect(status).toBe(0);
});

test("1,000 streams at once: 64 run, 256 wait, the others are refused; all that are dropped give back what they had", async () => {
  const server = await startServing([
    "--max-seqs",
    "64",
    "--isq",
    "Q4K",
    "plain",
    "-m",
    "models/tiny-mistral",
  ]);
  const controller = new AbortController();
  const body = { messages: "The database", max_tokens: 1000, stream: true, logit_bias: { 2: -100 } };
  const open = () =>
    fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
    });
  const statuses = await Promise.all(Array.from({ length: 1000 }, async () => (await open()).status));
  expect(statuses.filter((status) => status === 200)).toHaveLength(64 + 256);
  expect(statuses.filter((status) => status === 429)).toHaveLength(1000 - 64 - 256);
  controller.abort();
  const figure = async (name: string) => {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
  };
  while ((await figure("isq_running_texts")) + (await figure("isq_waiting_texts")) > 0) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await figure("isq_cache_blocks_free")).toBe(await figure("isq_cache_blocks"));
  expect(await figure("isq_open_requests")).toBe(0);
  expect((await fetch(`${server.url}/health`)).status).toBe(200);
  server.child.kill("SIGTERM");
  expect(await server.ended).toEqual({ code: 0, signal: null });
});
