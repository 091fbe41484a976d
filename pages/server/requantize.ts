/** Another type while the model runs: what it would do, how far it is, and what it did to the perplexity. */

import type { Plan } from "../../src/plan.js";
import { TYPE_NAMES } from "../../src/quants/table.js";
import { bitsPerWeight } from "../../src/quants/tensor.js";
import type { Job } from "../../src/server/re-isq-jobs.js";
import { element, find, table } from "../dom.js";
import { get, post, Refusal } from "./api.js";
import { bytes } from "./tensors.js";

/** What the perplexity is measured of when no other text is given. */
const SAMPLE = `When the river rose in the spring, the people of the valley moved their animals to the higher fields and waited.
The bridge at the mill had been built of oak, and it had stood for eighty years, but nobody was sure that it would stand
another night. In the morning the water was lower. The miller walked across, looked at the stones below, and said that the
bridge would be there for his children as well, if they took care of it.`;

const MILLISECONDS_BETWEEN = 250;

interface Measured {
  readonly type: string;
  readonly hash: string;
  readonly text: string;
  readonly bitsPerWeight: number;
  readonly byteLength: number;
  readonly perplexity: number;
  readonly standardError: number;
}

const type = find("type", HTMLSelectElement);
const text = find("text", HTMLTextAreaElement);
const status = find("job", HTMLElement);
const buttons = ["quantize", "preview", "measure-now"].map((id) => find(id, HTMLButtonElement));
const history: Measured[] = [];

const planNow = () => get<Plan>("v1/isq/plan");

/** Measures the weights in force, unless the same were measured with the same text just before. */
async function measure(): Promise<void> {
  const { requested, hash, totals } = await planNow();
  const last = history.at(-1);
  if (last?.hash === hash && last.text === text.value) return;
  status.textContent = "Measuring the perplexity…";
  const { tokenWeighted, standardError } = await post("v1/isq/perplexity", { text: text.value });
  history.push({
    type: requested ?? "as stored",
    hash,
    text: text.value,
    bitsPerWeight: totals.bitsPerWeight,
    byteLength: totals.byteLength,
    perplexity: tokenWeighted,
    standardError,
  });
  showHistory();
}

/** Measurements of the same text, each with its distance from the one before. */
function showHistory(): void {
  const same = history.filter((one) => one.text === text.value);
  const rows = same.map(({ type, bitsPerWeight, byteLength, perplexity, standardError }, i) => {
    const change = i === 0 ? "" : `${(100 * (perplexity / same[i - 1].perplexity - 1)).toFixed(2)} %`;
    const value = `${perplexity.toFixed(4)} ± ${standardError.toFixed(4)}`;
    return [type, bitsPerWeight.toFixed(3), bytes(byteLength), value, change.replace(/^(?=\d)/, "+")];
  });
  const columns = ["type", "bits per weight", "size", "perplexity", "change"];
  const shown = rows.length > 0 ? [table("Perplexity of the text", columns, rows)] : [];
  find("history", HTMLElement).replaceChildren(...shown);
}

function showProgress({ progress: { done, total, layers_done, layers, tensor } }: Job): void {
  const bar = find("progress", HTMLProgressElement);
  bar.max = Math.max(total, 1);
  bar.value = done;
  const where = tensor === null ? "" : `: ${tensor}`;
  find("progress-text", HTMLElement).textContent =
    `${done} of ${total} tensors, ${layers_done} of ${layers} layers${where}`;
}

/** Shows a job until it is over. */
async function follow(job: Job): Promise<Job> {
  showProgress(job);
  while (job.status === "running") {
    await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_BETWEEN));
    job = await get<Job>("re_isq");
    showProgress(job);
  }
  if (job.status === "done") return job;
  const layers = job.failures.map(({ layer }) => layer ?? "outside of layers").join(", ");
  const kept = layers === "" ? "" : `; these layers kept their weights: ${layers}`;
  throw new Refusal(500, job.error!.code, job.error!.message + kept);
}

function describe({ report, kind, type }: Job): string {
  const { tensors, seconds, from } = report!;
  const name = kind === "calibration" ? "Calibrated" : `Now ${type}`;
  const origin = from === "source" ? "the files" : "the weights as they ran";
  return `${name}: ${tensors.length} tensors changed in ${seconds.toFixed(1)} s, from ${origin}.`;
}

async function preview(): Promise<void> {
  const [now, then] = [await planNow(), await post<Plan>("v1/isq/plan", { isq: type.value })];
  const others = then.rows.filter(({ substituted }) => substituted);
  const size = `${bytes(then.totals.byteLength)} instead of ${bytes(now.totals.byteLength)}`;
  const bits = `${then.totals.bitsPerWeight.toFixed(3)} bits per weight instead of ${now.totals.bitsPerWeight.toFixed(3)}`;
  const list = others.map(({ tensor, reason }) => `${tensor}: ${reason}`).join("; ");
  const told = others.length > 0 ? `; ${others.length} not as asked for (${list})` : "";
  status.textContent = `${then.requested}: ${size}, ${bits}${told}.`;
}

async function requantize(changed: () => Promise<void>): Promise<void> {
  const measured = find("measure", HTMLInputElement).checked;
  const from = find("from", HTMLSelectElement).value;
  if (measured) await measure();
  status.textContent = `Quantizing to ${type.value}…`;
  try {
    const body = { ggml_type: type.value, wait: false, ...(from !== "" && { from }) };
    const done = await follow(await post<Job>("re_isq", body));
    if (measured) await measure();
    status.textContent = describe(done);
  } finally {
    await changed(); // also after a failure some layers may be new
  }
}

/** `changed` is called when weights have changed. */
export function startRequantize(report: (error: unknown) => void, changed: () => Promise<void>): void {
  type.append(
    ...TYPE_NAMES.map((name) =>
      element("option", { value: name }, `${name}, ${bitsPerWeight(name)} bits per weight`),
    ),
  );
  text.value = SAMPLE;
  text.addEventListener("input", showHistory);
  const guarded = (run: () => Promise<void>) => async () => {
    for (const button of buttons) button.disabled = true;
    try {
      await run();
    } catch (error) {
      status.textContent = "";
      report(error);
    }
    for (const button of buttons) button.disabled = false;
  };
  const [quantize, show, now] = [
    guarded(() => requantize(changed)),
    guarded(preview),
    guarded(async () => {
      await measure();
      status.textContent = "Measured.";
    }),
  ];
  find("requantize-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void quantize();
  });
  buttons[1].addEventListener("click", show);
  buttons[2].addEventListener("click", now);
}

/** A job that somebody else began, or this page before it was loaded again. */
export async function followRunning(
  report: (error: unknown) => void,
  changed: () => Promise<void>,
): Promise<void> {
  try {
    const job = await get<Job>("re_isq");
    if (job.status !== "running") return;
    status.textContent = `Quantizing to ${job.type ?? "the same types"}…`;
    status.textContent = describe(await follow(job));
    await changed();
  } catch (error) {
    if (!(error instanceof Refusal && error.code === "no_job")) report(error);
  }
}
