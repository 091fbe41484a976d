/** The page of a server: chat, re-ISQ, tensors. Everything it shows comes from the routes that everybody can ask. */

import type { Plan } from "../../src/plan.js";
import { find } from "../dom.js";
import { get, health, Refusal, setKey } from "./api.js";
import { startChat } from "./chat.js";
import { followRunning, startRequantize } from "./requantize.js";
import { bytes, showTensors, startTensors } from "./tensors.js";

const MILLISECONDS_BETWEEN = 1000;

const state = find("state", HTMLElement);
const problem = find("problem", HTMLElement);
const key = find("key", HTMLInputElement);

const WORDS: Readonly<Record<string, string>> = {
  loading: "The model is being loaded…",
  stopping: "The server is stopping.",
  failed: "The model could not be loaded; the server's log says why.",
  unreachable: "The server does not answer; trying again…",
};

function report(error: unknown): void {
  if (error instanceof Refusal && error.status === 401) askForKey(error);
  else problem.textContent = error instanceof Error ? error.message : String(error);
}

function askForKey({ message }: Refusal): void {
  // The first time it is no mistake of anybody.
  problem.textContent = key.value === "" ? "" : message;
  state.textContent = "This server wants an API key.";
  find("key-part", HTMLElement).hidden = false;
  find("parts", HTMLElement).hidden = true;
  key.focus();
}

/** The model's line and its tensors, as they are now. */
async function refresh(): Promise<void> {
  const { data } = await get("v1/models");
  const plan = await get<Plan>("v1/isq/plan");
  const [{ id, isq, context_length, backend, threads, byte_length }] = data;
  const type = isq === null ? "as stored" : isq;
  const where = threads > 1 ? `${backend} (${threads})` : backend;
  state.textContent = `${id}: ${type}, ${bytes(byte_length)}, context of ${context_length} tokens, on ${where}`;
  showTensors(plan);
}

const refreshed = () => refresh().catch(report);

async function open(): Promise<void> {
  for (let status = await health(); status !== "ok"; status = await health()) {
    state.textContent = WORDS[status] ?? status;
    if (status === "failed") return;
    await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_BETWEEN));
  }
  try {
    await refresh();
  } catch (error) {
    return report(error);
  }
  find("key-part", HTMLElement).hidden = true;
  find("parts", HTMLElement).hidden = false;
  await followRunning(report, refreshed);
}

find("key-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(key.value);
  problem.textContent = "";
  void open();
});
for (const name of ["submit", "click"]) {
  document.addEventListener(name, () => (problem.textContent = ""), { capture: true });
}
// What scrolls must scroll by keys, too.
for (const id of ["log", "tensors"]) find(id, HTMLElement).tabIndex = 0;
startChat(report);
startRequantize(report, refreshed);
startTensors();
void open();
