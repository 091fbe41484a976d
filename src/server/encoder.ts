/** Prompts to token ids without holding up other requests: long texts are tokenized by a worker thread. */

import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { IsqError } from "../errors.js";
import type { Tokenizer } from "../model/tokenizer.js";
import { ApiError } from "./errors.js";
import type { ServerLimits } from "./limits.js";

/** Workers run JavaScript: where this module itself is TypeScript (in tests), they take the built file. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/server/encode-worker.js" : "encode-worker.js",
  import.meta.url,
);

export interface EncodeTask {
  readonly text: string;
  readonly addSpecialTokens: boolean;
}

export interface Encoder {
  /** Throws `tokenizer/invalid`, `prompt/length` for a text that no tokens could shorten enough, and 429. */
  encode(text: string, addSpecialTokens: boolean, signal: AbortSignal): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** @param longest Most tokens that are of use; longer texts are refused where that shows before they are tokenized. */
export function openEncoder(tokenizer: Tokenizer, longest: number, limits: ServerLimits): Encoder {
  let piscina: Piscina | undefined;
  const open = () =>
    new Piscina({
      filename: fileURLToPath(WORKER),
      workerData: tokenizer.definition,
      minThreads: 1,
      maxThreads: 1,
      maxQueue: limits.tokenizeQueue,
      execArgv: [],
    });
  return {
    async encode(text, addSpecialTokens, signal) {
      const most = longest * tokenizer.longestToken;
      if (text.length > most) throw tooLong(text.length, most, longest);
      if (text.length <= limits.inlineCharacters) return tokenizer.encode(text, { addSpecialTokens });
      piscina ??= open();
      const timeout = AbortSignal.timeout(limits.tokenizeMs);
      try {
        const task: EncodeTask = { text, addSpecialTokens };
        return (await piscina.run(task, { signal: AbortSignal.any([signal, timeout]) })) as number[];
      } catch (error) {
        if (signal.aborted) throw new IsqError("aborted", "the request was aborted");
        if (timeout.aborted) {
          throw new ApiError(
            400,
            "prompt_too_slow",
            `the prompt took more than ${limits.tokenizeMs} ms to read`,
          );
        }
        if (piscina.queueSize >= limits.tokenizeQueue) {
          throw new ApiError(429, "overloaded", "too many prompts wait to be read; try again", {
            headers: { "retry-after": "1" },
          });
        }
        throw new IsqError(
          "tokenizer/invalid",
          (error as Error).message,
          { field: "prompt" },
          { cause: error },
        );
      }
    },
    async close() {
      await piscina?.destroy();
    },
  };
}

function tooLong(length: number, limit: number, tokens: number): IsqError {
  const message = `a prompt of ${length} characters does not fit ${tokens} tokens, which hold at most ${limit} characters`;
  return new IsqError("prompt/length", message, { field: "prompt", value: length, limit });
}
