/** The server, asked from its own page. */

/** Parsed JSON of a form that the caller names. */
type Json = ReturnType<typeof JSON.parse>;

/** A refusal, in the server's own words. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Key of the tab's own storage, which is empty in every other tab. */
const STORED = "isq-api-key";

export function setKey(key: string): void {
  sessionStorage.setItem(STORED, key);
}

function headers(): Record<string, string> {
  const key = sessionStorage.getItem(STORED);
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

/** Relative to the page, so that a proxy may put the server below a path. Throws a {@link Refusal}. */
async function ask(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...init, headers: headers() });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refusal(0, "unreachable", "the server does not answer");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: undefined }));
  throw new Refusal(response.status, error?.code ?? "", error?.message ?? `status ${response.status}`);
}

export async function get<Answer = Json>(path: string): Promise<Answer> {
  return (await ask(path, {})).json();
}

export async function post<Answer = Json>(path: string, body: object): Promise<Answer> {
  return (await ask(path, { method: "POST", body: JSON.stringify(body) })).json();
}

/** Whether the model takes requests: `ok`, `loading`, `stopping` or `failed`. Needs no key. */
export async function health(): Promise<string> {
  const response = await fetch(new URL("health", document.baseURI)).catch(() => undefined);
  return response ? (await response.json()).status : "unreachable";
}

/** The values of a stream of events up to `[DONE]`. Throws a {@link Refusal} when the server sends one or breaks off. */
export async function* stream(path: string, body: object, signal: AbortSignal): AsyncGenerator<Json> {
  const response = await ask(path, { method: "POST", body: JSON.stringify(body), signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Refusal(0, "cut", "the server broke off");
    const events = (rest + value).split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a comment that keeps the connection alive
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new Refusal(200, parsed.error.code, parsed.error.message);
      yield parsed;
    }
  }
}
