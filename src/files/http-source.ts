/** A byte source over HTTP: every slice is one range request, and an answer is believed only when it is what was asked for. */

import { IsqError } from "../errors.js";
import type { ByteSource } from "./source.js";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface HttpOptions {
  readonly fetch?: Fetch;
  readonly signal?: AbortSignal;
  /** Seconds without a byte after which a request is given up; 60 when absent. */
  readonly idleSeconds?: number;
}

/**
 * Opens a URL. Asks for one byte, which tells the length and whether the server answers ranges. Throws `source/open` when it
 * does not. Slices throw `source/read` for other answers than the range, a length that has changed or silence, and
 * `source/short` for fewer or more bytes; an answer that never ends is cut off.
 */
export async function fromUrl(url: string, options: HttpOptions = {}): Promise<ByteSource> {
  const request = options.fetch ?? ((address, init) => fetch(address, init));
  const fail = (tag: "source/open" | "source/read", reason: string, cause?: unknown): IsqError =>
    new IsqError(tag, `cannot read ${url}: ${reason}`, { file: url, reason }, { cause });
  const idle = 1000 * (options.idleSeconds ?? 60);

  const ask = async (tag: "source/open" | "source/read", start: number, end: number): Promise<Answer> => {
    const stop = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
    const inTime = async <Value>(promise: Promise<Value>): Promise<Value> => {
      const timer = setTimeout(() => stop.abort(new Error(`nothing came for ${idle / 1000} s`)), idle);
      try {
        return await promise;
      } catch (cause) {
        const reason = stop.signal.aborted ? stop.signal.reason : cause;
        throw fail(tag, reason instanceof Error ? reason.message : String(reason), cause);
      } finally {
        clearTimeout(timer);
      }
    };
    const headers = { range: `bytes=${start}-${end - 1}` };
    const response = await inTime(request(url, { headers, signal }));
    const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    const [first, last, length] = (range ?? []).slice(1).map(Number);
    const isRange = response.status === 206 && first === start && last === end - 1;
    if (!isRange || !Number.isSafeInteger(length)) {
      await response.body?.cancel();
      const what =
        response.status === 206 ? `with ${response.headers.get("content-range")}` : "without ranges";
      throw fail(tag, `the server answers ${response.status} ${what} to bytes ${start} to ${end}`);
    }
    return { length, bytes: await readBody(response, end - start, inTime) };
  };

  const { length: byteLength, bytes: first } = await ask("source/open", 0, 1);
  if (first.length !== 1) throw fail("source/open", "the server gives another number of bytes than it says");
  return {
    name: url,
    byteLength,
    async slice(start, end) {
      const { length, bytes } = await ask("source/read", start, end);
      if (length !== byteLength) {
        throw fail("source/read", `it had ${byteLength} bytes when it was opened, and has ${length} now`);
      }
      return bytes;
    },
  };
}

interface Answer {
  /** Of the whole. */
  readonly length: number;
  readonly bytes: Uint8Array;
}

/** The bytes of an answer; of one that is longer than `wanted`, one byte more than that. */
async function readBody(
  { body }: Response,
  wanted: number,
  inTime: <Value>(promise: Promise<Value>) => Promise<Value>,
): Promise<Uint8Array> {
  const out = new Uint8Array(wanted + 1);
  const reader = body?.getReader();
  let filled = 0;
  while (reader && filled <= wanted) {
    const { done, value } = await inTime(reader.read());
    if (done) break;
    const part = value.subarray(0, wanted + 1 - filled);
    out.set(part, filled);
    filled += part.length;
  }
  if (filled > wanted) await reader?.cancel();
  return out.subarray(0, filled);
}
