// The main job on the model of this repository: quantize it in situ to several types, measure what that cost, generate
// text, and write a page with plots. Uses the public API only.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { COST_COLUMNS, formatTable, klDivergence, renderCostPage, TextModelBuilder, tokenLosses } from "isq";

const TYPES = ["Q8_0", "Q6K", "Q5K", "Q4K", "Q3K", "Q2K", "HQQ4", "FP8"];
/** Seconds to spend on measuring, all types together; the token count follows from it and is printed. */
const MEASURING_SECONDS = Number(process.env.ISQ_DEMO_SECONDS ?? 50);
/** Cost of a token by integer dots in units of an unquantized token, at worst (on the reference backend). */
const INTEGER_DOT_COST = 3.5;

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = "models/tiny-mistral";
const text = readFileSync(`${root}/models/text/eval.txt`, "utf8");
const started = performance.now();
const seconds = () => (performance.now() - started) / 1000;

console.log(`Loading ${folder} unquantized, to compare with`);
const baseline = await new TextModelBuilder(`${root}/${folder}`).build();
const chunks = baseline.chunks(text, { chunkTokens: await affordableTokens(), maxChunks: 1 });
const expected = [];
for (const { tokens } of chunks) expected.push(await baseline.logits(tokens));
const { vocabulary } = baseline;
await baseline.dispose();

/** How many tokens fit MEASURING_SECONDS, judged by a short run of the unquantized model. */
async function affordableTokens() {
  const [trial] = baseline.chunks(text, { chunkTokens: 63, maxChunks: 1 });
  await baseline.logits(trial.tokens); // once to warm up
  const from = performance.now();
  await baseline.logits(trial.tokens);
  const secondsPerToken = (performance.now() - from) / 1000 / trial.tokens.length;
  const units = 1 + TYPES.reduce((sum, type) => sum + (/^Q/.test(type) ? INTEGER_DOT_COST : 1.5), 0);
  return Math.min(1023, Math.max(31, Math.floor(MEASURING_SECONDS / (units * secondsPerToken))));
}

/** exp of the mean loss over all chunks, and the mean KL divergence from the unquantized logits. */
function compare(logits) {
  let loss = 0;
  let divergence = 0;
  let tokens = 0;
  logits.forEach((rows, i) => {
    const losses = tokenLosses(rows, chunks[i].tokens, vocabulary);
    const kl = klDivergence(expected[i], rows, vocabulary).divergence;
    losses.forEach((value, t) => {
      loss += value;
      divergence += kl[t];
    });
    tokens += losses.length;
  });
  return { perplexity: Math.exp(loss / tokens), divergence: divergence / tokens, tokens };
}

const before = compare(expected);
const rows = [];
let sample;
for (const type of TYPES) {
  const model = await new TextModelBuilder(`${root}/${folder}`).withIsq(type).build({ measureError: true });
  const logits = [];
  for (const { tokens } of chunks) logits.push(await model.logits(tokens));
  const after = compare(logits);
  rows.push({
    type,
    bitsPerWeight: model.plan.totals.bitsPerWeight,
    bytesBefore: model.plan.totals.sourceByteLength,
    bytesAfter: model.plan.totals.byteLength,
    perplexityBefore: before.perplexity,
    perplexityAfter: after.perplexity,
    divergence: after.divergence,
    seconds: model.report.seconds,
    tensors: model.report.tensors,
  });
  console.log(`${type}: perplexity ${after.perplexity.toFixed(3)} (${seconds().toFixed(0)} s)`);
  if (type === "Q4K") {
    const prompt = "The database connection";
    const { text: continuation } = await model.generate({ prompt, maxTokens: 48 });
    sample = { type, text: prompt + continuation };
  }
  await model.dispose();
}

const cells = rows.map((row) => COST_COLUMNS.map((column) => column.cell(row)));
console.log(
  `\n${folder} on ${before.tokens} tokens, on ${baseline.backendName}${baseline.workers > 1 ? ` (${baseline.workers} workers)` : ""}\n`,
);
console.log(
  formatTable(
    COST_COLUMNS.map((column) => column.title),
    cells,
    new Set([1, 2, 3, 4, 5, 6, 7]),
  ),
);
console.log(`\n${sample.type}: ${sample.text}\n`);
mkdirSync(`${root}/out`, { recursive: true });
writeFileSync(
  `${root}/out/report.html`,
  renderCostPage({ model: folder, tokens: before.tokens, rows, sample }),
);
console.log(`Plots: out/report.html   (${seconds().toFixed(0)} s in all)`);
