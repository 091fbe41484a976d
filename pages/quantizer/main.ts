/** The quantizer: a file is dropped, quantized by this machine's threads or GPU, and given back. */

import type { Backend } from "../../src/backends/backend.js";
import { openBackend } from "../../src/backends/open.js";
import { webgpu } from "../../src/backends/webgpu.js";
import { isIsqError } from "../../src/errors.js";
import type { Plan } from "../../src/plan.js";
import { TYPE_NAMES } from "../../src/quants/index.js";
import type { IsqType } from "../../src/quants/table.js";
import { element, find, show, table } from "../dom.js";
import { quantizeFile } from "./quantize-file.js";

const type = find("type", HTMLSelectElement);
const choice = find("backend", HTMLSelectElement);
const status = find("status", HTMLElement);
const problem = find("problem", HTMLElement);
const progress = find("progress", HTMLProgressElement);
const result = find("result", HTMLElement);
const download = find("download", HTMLAnchorElement);

let work = new AbortController();

/** The GPU where there is one and its results are exact, else the fastest backend on processors. */
async function openChosen(): Promise<Backend> {
  if (choice.value === "webgpu") return webgpu();
  if (choice.value !== "auto") return openBackend(choice.value as "wasm");
  if ("gpu" in navigator) {
    try {
      return await webgpu();
    } catch (error) {
      if (!isIsqError(error)) throw error; // no adapter, or one that is not exact
    }
  }
  return openBackend();
}

async function quantize(file: File): Promise<void> {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  problem.textContent = "";
  result.hidden = true;
  progress.hidden = false;
  let backend: Backend | undefined;
  try {
    status.textContent = `opening ${file.name}`;
    backend = await openChosen();
    const { name } = backend;
    const started = performance.now();
    const made = await quantizeFile(file.name, file, type.value as IsqType, backend, {
      signal,
      onProgress: (done, total, tensor) => {
        [progress.value, progress.max] = [done, total];
        status.textContent = `${name}: ${done} of ${total} tensors, ${tensor}`;
      },
    });
    const seconds = (performance.now() - started) / 1000;
    offer(file.name, made.bytes);
    list(made.plan);
    status.textContent = `${file.name} quantized by ${name} in ${show(seconds)} seconds`;
    result.hidden = false;
    find("result-title", HTMLElement).focus();
  } catch (error) {
    if (isIsqError(error, "aborted")) return;
    status.textContent = "";
    problem.textContent = error instanceof Error ? error.message : String(error);
    if (!isIsqError(error)) console.error(error);
  } finally {
    if (!signal.aborted) progress.hidden = true;
    await backend?.dispose();
  }
}

function offer(name: string, bytes: Uint8Array): void {
  URL.revokeObjectURL(download.href);
  download.href = URL.createObjectURL(new Blob([bytes as BlobPart]));
  download.download = name.replace(/(\.safetensors)?$/i, `-${type.value.toLowerCase()}.safetensors`);
  download.textContent = `Save ${download.download}, ${bytes.length.toLocaleString("en")} bytes`;
}

function list({ rows, totals }: Plan): void {
  const cells = rows.map((row) => [
    row.tensor,
    row.source.type,
    row.type,
    row.byteLength.toLocaleString("en"),
    row.reason ?? "",
  ]);
  const title = `${totals.quantizedTensors} of ${rows.length} tensors quantized, ${show(totals.bitsPerWeight)} bits per weight`;
  find("tensors", HTMLElement).replaceChildren(table(title, ["tensor", "was", "is", "bytes", "why"], cells));
}

type.append(...TYPE_NAMES.map((name) => element("option", { selected: name === "Q4K" }, name)));
find("file", HTMLInputElement).addEventListener("change", ({ target }) => {
  const [file] = (target as HTMLInputElement).files ?? [];
  if (file) void quantize(file);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (file) void quantize(file);
});
