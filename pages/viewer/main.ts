/** The block viewer: what the page shows, and when. */

import { isIsqError } from "../../src/errors.js";
import type { CheckpointEntry } from "../../src/files/checkpoint.js";
import { element, find, show, table } from "../dom.js";
import { createHeatMap, endsOf, legendOf, mapWidth } from "./heat-map.js";
import { type ChosenFile, openChosen } from "./open.js";
import { showTensors } from "./tensor-list.js";
import { isReadable, openTensorView, type TensorView, type UnitErrors } from "./tensor-view.js";
import { unitTables } from "./unit-tables.js";

const status = find("status", HTMLElement);
const problem = find("problem", HTMLElement);
const filter = find("filter", HTMLInputElement);
const measure = find("measure", HTMLSelectElement);
const unitNumber = find("unit-number", HTMLInputElement);
const sections = ["tensors", "tensor", "unit"].map((id) => find(id, HTMLElement));

/** How many of the worst blocks are listed. */
const WORST = 10;

let file: ChosenFile | null = null;
let source: ChosenFile | null = null;
let view: TensorView | null = null;
let errors: UnitErrors | null = null;
let unit = 0;
/** What was begun last; what is older stops. */
let work = new AbortController();

const map = createHeatMap(
  find("map-frame", HTMLElement),
  find("map", HTMLCanvasElement),
  (chosen) => void openUnit(chosen),
);

function reveal(count: number): void {
  sections.forEach((section, i) => {
    section.hidden = i >= count;
  });
}

/** Runs what a user asked for; errors are said, in their own sentence. */
async function attempt(run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  problem.textContent = "";
  try {
    await run(signal);
  } catch (error) {
    if (isIsqError(error, "aborted")) return;
    problem.textContent = error instanceof Error ? error.message : String(error);
    if (!isIsqError(error)) console.error(error);
  }
}

async function chooseFile(chosen: readonly File[]): Promise<void> {
  await attempt(async () => {
    reveal(0);
    file = await openChosen(chosen);
    listTensors();
    reveal(1);
    find("tensors-title", HTMLElement).focus();
    const about = `${file.name}: ${file.tensors.size} tensors, ${file.byteLength.toLocaleString("en")} bytes`;
    status.textContent = file.note ? `${about}; ${file.note}` : about;
  });
}

async function chooseSource(chosen: readonly File[]): Promise<void> {
  await attempt(async () => {
    source = await openChosen(chosen);
    status.textContent = `source: ${source.name}, ${source.tensors.size} tensors`;
  });
  if (view) await openTensor(view.entry);
}

function listTensors(): void {
  if (!file) return;
  showTensors(
    find("tensor-table", HTMLElement),
    file.tensors.values(),
    filter.value,
    (entry) => void openTensor(entry),
  );
}

async function openTensor(entry: CheckpointEntry): Promise<void> {
  await attempt(async (signal) => {
    if (!file) return;
    [view, errors] = [null, null];
    reveal(2);
    const title = find("tensor-title", HTMLElement);
    title.textContent = entry.name;
    showFacts(entry);
    find("map-part", HTMLElement).hidden = true;
    if (!isReadable(entry)) throw new Error(`${entry.name} is ${entry.dtype}, which is not decoded here`);
    const opened = openTensorView(file, entry, source);
    view = opened;
    if (opened.hasSource) {
      const measured = await opened.measure(signal, (share) => {
        status.textContent = `comparing ${entry.name}: ${Math.round(100 * share)} %`;
      });
      if (view !== opened) return;
      errors = measured;
      showMap();
      status.textContent = `${entry.name} compared with ${source?.name}`;
    } else {
      const why = source
        ? `${source.name} has no tensor of this name`
        : "no source was chosen, so there are no errors";
      status.textContent = `${entry.name}: ${why}`;
    }
    reveal(3);
    await showUnit(0, false);
    title.focus();
  });
}

function showFacts({ dtype, shape, byteLength, algorithm }: CheckpointEntry): void {
  const facts: [string, string][] = [
    ["type", algorithm ? `${dtype}, ${algorithm}` : dtype],
    ["shape", shape.join(" × ")],
    ["bytes", byteLength.toLocaleString("en")],
  ];
  const made = facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  find("tensor-facts", HTMLElement).replaceChildren(...made);
}

const shownErrors = (): Float32Array | null => errors?.[measure.value as keyof UnitErrors] ?? null;

function showMap(): void {
  const values = shownErrors();
  if (!view || !values) return;
  find("map-part", HTMLElement).hidden = false;
  const { perLine } = view.units;
  const width = mapWidth(values.length, perLine);
  map.draw(values, width);
  const order = Uint32Array.from(values, (_, i) => i).sort((a, b) => rank(values[b]) - rank(values[a]));
  const swatches = legendOf(endsOf(values)).map(({ colour, from }) =>
    element(
      "li",
      {},
      element("span", { class: "swatch", style: `background:${colour}` }),
      `from ${show(from)}`,
    ),
  );
  find("legend", HTMLElement).replaceChildren(...swatches);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  find("map-summary", HTMLElement).textContent =
    `${values.length} ${view.units.name}s; mean error ${show(mean)}, largest ${show(values[order[0]])}; ` +
    `a line of the map has ${width} of them, ${width / perLine} of the tensor's rows`;
  showWorst(values, order);
}

const rank = (value: number): number => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : value);

function showWorst(values: Float32Array, order: Uint32Array): void {
  if (!view) return;
  const { units } = view;
  const rows = Array.from(order.subarray(0, WORST), (index) => {
    const button = element("button", { type: "button" }, `${units.name} ${index}`);
    button.addEventListener("click", async () => {
      await openUnit(index);
      find("unit-title", HTMLElement).focus();
    });
    return [button, units.describe(index), show(values[index])];
  });
  const title = `The ${rows.length} ${units.name}s with the largest errors`;
  find("worst", HTMLElement).replaceChildren(table(title, [units.name, "place", "error"], rows));
}

async function openUnit(chosen: number): Promise<void> {
  await attempt(() => showUnit(chosen, true));
}

async function showUnit(chosen: number, marks: boolean): Promise<void> {
  const opened = view;
  if (!opened || opened.units.count === 0) return;
  const { units } = opened;
  unit = Math.max(0, Math.min(units.count - 1, chosen));
  const value = shownErrors()?.[unit];
  const place = `${units.describe(unit)}${value === undefined ? "" : `, error ${show(value)}`}`;
  if (errors) map.mark(unit, `${units.name} ${unit}, ${place}`);
  const name = units.name[0].toUpperCase() + units.name.slice(1);
  find("unit-title", HTMLElement).textContent = `${name} ${unit}`;
  find("unit-label", HTMLElement).textContent = `${name} number, 0 to ${units.count - 1}`;
  unitNumber.max = String(units.count - 1);
  unitNumber.value = String(unit);
  const content = await opened.read(unit);
  if (view !== opened || unit !== Math.max(0, Math.min(units.count - 1, chosen))) return;
  find("unit-content", HTMLElement).replaceChildren(...unitTables(content));
  const shown = find("unit-place", HTMLElement);
  // Where it was not asked for, nothing is announced.
  shown.setAttribute("aria-live", marks ? "polite" : "off");
  shown.textContent = place;
}

function listen(): void {
  const choose = (id: string, use: (files: readonly File[]) => Promise<void>) => {
    const input = find(id, HTMLInputElement);
    input.addEventListener("change", () => {
      const chosen = [...(input.files ?? [])];
      if (chosen.length > 0) void use(chosen);
    });
  };
  choose("file", chooseFile);
  choose("source", chooseSource);
  filter.addEventListener("input", listTensors);
  measure.addEventListener("change", () => {
    showMap();
    void openUnit(unit);
  });
  find("unit-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void openUnit(Number(unitNumber.value));
  });
  find("previous", HTMLButtonElement).addEventListener("click", () => void openUnit(unit - 1));
  find("next", HTMLButtonElement).addEventListener("click", () => void openUnit(unit + 1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    const dropped = [...(event.dataTransfer?.files ?? [])];
    const [first, second] = dropped;
    const isSet = dropped.some(({ name }) => name.toLowerCase().endsWith(".uqff"));
    if (isSet) return chooseFile(dropped);
    if (first) await chooseFile([first]);
    if (second) await chooseSource([second]);
  });
}

listen();
