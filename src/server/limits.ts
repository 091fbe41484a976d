/** Every cap of the server, each with its reason. All can be overridden; nothing else in the server holds a limit. */

export const SERVER_LIMITS = {
  /** Bytes of a request body: a prompt for a context of a million tokens has some 5 MB (CWE-770). */
  bodyBytes: 8 * 1024 * 1024,
  /** Levels of a JSON body: requests need six, arguments of tools a few more (CWE-674). */
  jsonDepth: 64,
  /** Bytes of request line and headers: longer ones are answered with 431. */
  headerBytes: 16 * 1024,
  /** Milliseconds for the headers of a request, and for the whole request: slow senders hold a connection (CWE-400). */
  headersMs: 10_000,
  requestMs: 30_000,
  /** Milliseconds that a connection stays open without a request. */
  idleMs: 5_000,
  /** Connections at the same time. */
  connections: 4096,
  /** Milliseconds that a client may leave a stream unread before it counts as gone: it holds a place of the model. */
  stallMs: 60_000,
  /** Milliseconds between comments in a stream that has nothing to say, for proxies that close silent ones. */
  keepAliveMs: 10_000,
  /** Texts that wait for a place; more are answered with 429. */
  queued: 256,
  /** Milliseconds that running texts get to finish when the server stops. */
  drainMs: 30_000,
  /** Texts of one request: choices times prompts. */
  choices: 64,
  /** Messages of a conversation: templates take quadratic time for some. */
  messages: 4096,
  /** Characters of a model's name, which is not looked at. */
  nameLength: 256,
  /** Likeliest tokens at each place, as the OpenAI interface has it. */
  topLogprobs: 20,
  /** Token ids with a bias of their own. */
  logitBias: 1024,
  /** Characters of text that are tokenized where requests are answered: some milliseconds. Longer ones go to a worker. */
  inlineCharacters: 2048,
  /** Milliseconds for one text to be tokenized: some tokenizers take quadratic time for texts without spaces. */
  tokenizeMs: 20_000,
  /** Texts that wait for the tokenizer's worker. */
  tokenizeQueue: 64,
  /** Bytes of a text whose perplexity is measured, and tokens of it that are used. */
  perplexityTokens: 8192,
} as const;

/** Every limit of {@link SERVER_LIMITS}, with a value of the caller's. */
export type ServerLimits = Readonly<Record<keyof typeof SERVER_LIMITS, number>>;
