// The server under load: 64 clients that stream answers of tiny-mistral at the same time (autocannon), for a minute without
// an error or a leak; and the tokens per second of texts that run together over those of the same load one text at a time,
// in turns. Prints latencies and the ratio, writes JSON, and ends with 1 when something was wrong.
// npm run build && node bench/server.mjs [--clients 64] [--seconds 60] [--tokens 32] [--rounds 3] [--round-seconds 10]
//   [--isq Q4K] [--no-write]
import { spawn } from "node:child_process";
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import autocannon from "autocannon";
import { median } from "./lib/measure.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: {
    clients: { type: "string", default: "64" },
    seconds: { type: "string", default: "60" },
    tokens: { type: "string", default: "32" },
    rounds: { type: "string", default: "3" },
    "round-seconds": { type: "string", default: "10" },
    isq: { type: "string", default: "Q4K" },
    "no-write": { type: "boolean", default: false },
  },
});
const [clients, seconds, tokens, rounds, roundSeconds] = [
  ...[flags.clients, flags.seconds, flags.tokens, flags.rounds, flags["round-seconds"]].map(Number),
];
const root = fileURLToPath(new URL("..", import.meta.url));
const SAMPLE_MS = 250;
/** What the heap may grow by from the warm-up to the end, both collected: code and statistics, but nothing per answer. */
const HEAP_SLACK_BYTES = 8 * 2 ** 20;
/** Answers a message with what is left after a collection. */
const COLLECTOR = `data:text/javascript,${encodeURIComponent(
  "process.on('message', () => { gc(); setTimeout(() => { gc(); process.send(process.memoryUsage()); }, 100); }); process.channel.unref();",
)}`;

async function startServer(maxSequences) {
  const args = ["serve", "--port", "0", "--max-seqs", String(maxSequences), "--isq", flags.isq];
  const child = spawn(
    process.execPath,
    [
      ...["--expose-gc", "--import", COLLECTOR, `${root}/dist/cli/main.js`, ...args],
      ...["plain", "-m", "models/tiny-mistral"],
    ],
    { cwd: root, stdio: ["ignore", "pipe", "ignore", "ipc"] },
  );
  let text = "";
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.includes("ready: ")) break;
  }
  const [, url] = /listening on (\S+)/.exec(text);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return {
    url,
    /** Bytes of the heap that are in use. */
    async heapBytes() {
      const answer = new Promise((resolve) => child.once("message", resolve));
      child.send("collect");
      return (await answer).heapUsed;
    },
    async stop() {
      child.kill("SIGTERM");
      return ended;
    },
  };
}

/** Every number of /metrics by its name and labels. */
async function readMetrics(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

/** Streams for so long; an answer counts when it has all of its tokens and its end. */
async function load(url, duration) {
  const body = {
    messages: "The database connection",
    max_tokens: tokens,
    logit_bias: { 2: -100 },
    stream: true,
  };
  const [before, started] = [await readMetrics(url), performance.now()];
  let after = before;
  const run = autocannon({
    url: `${url}/v1/chat/completions`,
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    connections: clients,
    duration,
    timeout: 300,
    verifyBody: (answer) =>
      String(answer).endsWith("data: [DONE]\n\n") && String(answer).includes('"finish_reason":"length"'),
  });
  let over = false;
  run.then(
    () => (over = true),
    () => (over = true),
  );
  while (!over) {
    after = await readMetrics(url);
    await sleep(SAMPLE_MS);
  }
  const result = await run;
  const elapsed = (performance.now() - started) / 1000;
  const counted = 'isq_tokens_total{kind="completion"}';
  return { result, tokensPerSecond: (after[counted] - (before[counted] ?? 0)) / elapsed };
}

/** Waits until everybody has gone, and tells what is still held. */
async function settle({ url, heapBytes }) {
  let now = await readMetrics(url);
  for (let turn = 0; turn < 40 && now.isq_open_requests + now.isq_running_texts > 0; turn++) {
    await sleep(SAMPLE_MS);
    now = await readMetrics(url);
  }
  return {
    requests: now.isq_open_requests,
    texts: now.isq_running_texts + now.isq_waiting_texts,
    blocks: now.isq_cache_blocks - now.isq_cache_blocks_free,
    heapBytes: await heapBytes(),
  };
}

const [together, alone] = [await startServer(clients), await startServer(1)];
const wrong = [];
const check = (holds, what) => holds || wrong.push(what);

await load(together.url, Math.max(3, seconds / 6));
const before = await settle(together);
const soak = await load(together.url, seconds);
const { latency, errors, timeouts, non2xx, mismatches, requests } = soak.result;
const after = await settle(together);
const failures = { errors, timeouts, non2xx, mismatches };
for (const [name, count] of Object.entries(failures)) check(count === 0, `${count} ${name}`);
check(requests.total >= clients, `only ${requests.total} answers`);
for (const held of ["requests", "texts", "blocks"])
  check(after[held] === 0, `${after[held]} ${held} still held`);
const growth = after.heapBytes - before.heapBytes;
check(growth < HEAP_SLACK_BYTES, `the heap grew by ${growth} bytes`);

const speeds = { together: [], alone: [] };
for (let turn = 0; turn < rounds; turn++) {
  speeds.alone.push((await load(alone.url, roundSeconds)).tokensPerSecond);
  speeds.together.push((await load(together.url, roundSeconds)).tokensPerSecond);
}
const ratio = median(speeds.together.map((speed, turn) => speed / speeds.alone[turn]));
check(ratio >= 2, `texts together are only ${round(ratio)} times as fast as one at a time`);
for (const server of [together, alone]) {
  const code = await server.stop();
  check(code === 0, `a server ended with ${code}`);
}

const row = {
  model: "tiny-mistral",
  isq: flags.isq,
  clients,
  seconds,
  tokens,
  /** Of the machine while this ran: what else it was busy with. */
  loadAverage: round(loadavg()[0]),
  answers: requests.total,
  ...failures,
  latencyMs: { p50: latency.p50, p90: latency.p90, p99: latency.p99, max: latency.max },
  tokensPerSecond: round(soak.tokensPerSecond),
  held: { before, after },
  batching: {
    tokensPerSecond: {
      together: speeds.together.map((speed) => round(speed)),
      alone: speeds.alone.map((speed) => round(speed)),
    },
    ratio: round(ratio),
  },
};
console.log(JSON.stringify(row, null, 1));
console.log(
  `${clients} clients, ${seconds} s: ${requests.total} answers of ${tokens} tokens, p50 ${latency.p50} ms, p99 ${latency.p99} ms; ` +
    `together ${round(ratio)} times the tokens per second of one at a time`,
);
if (!flags["no-write"]) {
  writeResults("server", { tokens, rounds, roundSeconds }, [row], ({ clients, isq }) => `${clients} ${isq}`);
}
console.log(wrong.length === 0 ? "PASS" : `FAIL ${wrong.join("; ")}`);
process.exitCode = wrong.length === 0 ? 0 : 1;
