// The main job on the model of this repository: quantize it in situ to several types, measure what that cost, generate
// text, and write a page with plots. Uses the public API only.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { COST_COLUMNS, formatTable, klDivergence, renderCostPage, TextModelBuilder, tokenLosses } from "isq";

const TYPES = ["Q8_0", "Q6K", "Q5K", "Q4K", "Q3K", "Q2K", "HQQ4", "FP8"];
const CHUNK_TOKENS = 255; // with the BOS in front, 256 positions
/** Seconds for measuring the unquantized model; the quantized ones then run on the same tokens. */
const BASELINE_SECONDS = Number(process.env.ISQ_DEMO_SECONDS ?? 8);

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = "models/tiny-mistral";
const text = readFileSync(`${root}/models/text/eval.txt`, "utf8");
const started = performance.now();
const seconds = () => (performance.now() - started) / 1000;

console.log(`Loading ${folder} unquantized and measuring it for about ${BASELINE_SECONDS} s`);
const baseline = await new TextModelBuilder(`${root}/${folder}`).build();
const chunks = [];
const expected = [];
const measuringFrom = seconds();
for (const chunk of baseline.chunks(text, { chunkTokens: CHUNK_TOKENS })) {
  if (chunks.length > 0 && seconds() - measuringFrom > BASELINE_SECONDS) break;
  chunks.push(chunk);
  expected.push(await baseline.logits(chunk));
}
const { vocabulary } = baseline;
await baseline.dispose();

/** exp of the mean loss over all chunks, and the mean KL divergence from the unquantized logits. */
function compare(logits) {
  let loss = 0;
  let divergence = 0;
  let tokens = 0;
  logits.forEach((rows, i) => {
    const losses = tokenLosses(rows, chunks[i], vocabulary);
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
  for (const chunk of chunks) logits.push(await model.logits(chunk));
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
console.log(`\n${folder} on ${before.tokens} tokens, ${baseline.backendName} backend\n`);
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
