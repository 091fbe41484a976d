/** A byte source over HTTP: every slice is one range request. */

import { IsqError } from "../errors.js";
import type { ByteSource } from "./source.js";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/**
 * Opens a URL. Asks for one byte, which tells the length and whether the server answers ranges. Throws `source/open` when
 * it does not; slices throw `source/read`.
 */
export async function fromUrl(
  url: string,
  options: { fetch?: Fetch; signal?: AbortSignal } = {},
): Promise<ByteSource> {
  const request = options.fetch ?? ((address, init) => fetch(address, init));
  const ask = async (start: number, end: number): Promise<Response> => {
    const headers = { range: `bytes=${start}-${end - 1}` };
    return request(url, { headers, ...(options.signal && { signal: options.signal }) });
  };
  const fail = (tag: "source/open" | "source/read", reason: string, cause?: unknown): IsqError =>
    new IsqError(tag, `cannot read ${url}: ${reason}`, { file: url, reason }, { cause });

  const first = await ask(0, 1).catch((cause: Error) => {
    throw fail("source/open", cause.message, cause);
  });
  await first.body?.cancel();
  const byteLength = Number(/^bytes 0-0\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1]);
  if (first.status !== 206 || !Number.isSafeInteger(byteLength)) {
    throw fail("source/open", `the server answers ${first.status} without ranges`);
  }
  return {
    name: url,
    byteLength,
    async slice(start, end) {
      const response = await ask(start, end);
      if (response.status !== 206)
        throw fail("source/read", `the server answers ${response.status} to a range`);
      return new Uint8Array(await response.arrayBuffer());
    },
  };
}
