/** The conversation. */

import { element, find } from "../dom.js";
import { stream } from "./api.js";

interface Message {
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
}

const log = find("log", HTMLElement);
const input = find("message", HTMLTextAreaElement);
const status = find("chat-status", HTMLElement);
const [send, stop] = [find("send", HTMLButtonElement), find("stop", HTMLButtonElement)];
let messages: Message[] = [];
let running: AbortController | undefined;

/** A turn in the log; what is written to its text is text, whatever it looks like. */
function addTurn(speaker: string, content: string): HTMLElement {
  const text = element("span", {}, content);
  log.append(element("p", {}, element("b", { class: "speaker" }, speaker), text));
  log.scrollTop = log.scrollHeight;
  return text;
}

/** Number of a field, or nothing where it is empty. */
function numberOf(id: string, name: string): Record<string, number> {
  const { value, valueAsNumber } = find(id, HTMLInputElement);
  return value === "" ? {} : { [name]: valueAsNumber };
}

function requestOf(content: string): { path: string; body: object } {
  const options = {
    stream: true,
    stream_options: { include_usage: true },
    ...numberOf("most", "max_tokens"),
    ...numberOf("temperature", "temperature"),
    ...numberOf("seed", "seed"),
  };
  if (find("form", HTMLSelectElement).value === "text") {
    return { path: "v1/completions", body: { ...options, prompt: content } };
  }
  const system = find("system", HTMLTextAreaElement).value;
  const opening: Message[] = system === "" ? [] : [{ role: "system", content: system }];
  return {
    path: "v1/chat/completions",
    body: { ...options, messages: [...opening, ...messages, { role: "user", content }] },
  };
}

/** Streams the answer into the log. What was said counts as said, also when it was stopped. */
async function answer(content: string, signal: AbortSignal): Promise<void> {
  const { path, body } = requestOf(content);
  const text = addTurn("Model", "");
  try {
    for await (const { choices, usage } of stream(path, body, signal)) {
      const [choice] = choices;
      text.append(choice?.delta?.content ?? choice?.text ?? "");
      log.scrollTop = log.scrollHeight;
      if (usage) {
        const rate = usage.avg_compl_tok_per_sec.toFixed(1);
        status.textContent = `${usage.completion_tokens} tokens, ${rate} per second`;
      }
    }
  } catch (error) {
    if (text.textContent === "") text.parentElement!.remove();
    if (!signal.aborted) throw error;
    status.textContent = "Stopped.";
  } finally {
    const said: Message = { role: "assistant", content: text.textContent! };
    if (said.content !== "") messages = [...messages, { role: "user", content }, said];
  }
}

async function submit(report: (error: unknown) => void): Promise<void> {
  const content = input.value;
  if (content.trim() === "" || running) return;
  running = new AbortController();
  send.disabled = true;
  stop.disabled = false;
  log.setAttribute("aria-busy", "true"); // a screen reader waits for the whole answer
  status.textContent = "The model answers…";
  const turn = addTurn("You", content);
  input.value = "";
  try {
    await answer(content, running.signal);
  } catch (error) {
    status.textContent = "";
    turn.parentElement!.remove();
    input.value ||= content;
    report(error);
  }
  running = undefined;
  send.disabled = false;
  stop.disabled = true;
  log.removeAttribute("aria-busy");
}

export function startChat(report: (error: unknown) => void): void {
  const form = find("chat-form", HTMLFormElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void submit(report);
  });
  // A field that is folded away could not have the focus.
  form.addEventListener("invalid", () => (find("options", HTMLDetailsElement).open = true), {
    capture: true,
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send.click();
  });
  stop.addEventListener("click", () => {
    running?.abort();
    input.focus();
  });
  find("clear", HTMLButtonElement).addEventListener("click", () => {
    running?.abort();
    messages = [];
    log.replaceChildren();
    status.textContent = "";
    input.focus();
  });
}
