/** A server over the trained model, on a free port, and the official client. */

import { connect } from "node:net";
import OpenAI from "openai";
import type { TextModel } from "../../src/run.js";
import { type RunningServer, type ServeOptions, startServer } from "../../src/server/index.js";
import { TextModelBuilder } from "../../src/text-model-builder.js";

/** Parsed JSON of unknown form. */
type Json = ReturnType<typeof JSON.parse>;

export interface Fixture {
  readonly model: TextModel;
  readonly server: RunningServer;
  readonly url: string;
  readonly client: OpenAI;
  /** POSTs JSON; the status and the parsed answer. */
  post(path: string, body: unknown): Promise<{ status: number; body: Json; headers: Headers }>;
  get(path: string): Promise<{ status: number; body: Json }>;
  close(): Promise<void>;
}

export const KEY = "test-key";

export function loadModel(maxSequences = 16): Promise<TextModel> {
  return new TextModelBuilder("models/tiny-mistral")
    .withIsq("Q4K")
    .withBackend("threads")
    .withThreads(2)
    .withPagedAttention()
    .withMaxSequences(maxSequences)
    .build();
}

export async function serve(
  options: ServeOptions = {},
  loading: TextModel | Promise<TextModel> = loadModel(),
  onListening: (url: string) => void = () => {},
): Promise<Fixture> {
  const server = await startServer(loading, { port: 0, modelId: "tiny", apiKey: KEY, ...options });
  onListening(server.url);
  const model = await server.ready;
  const { url } = server;
  const headers = { authorization: `Bearer ${KEY}` };
  const read = async (response: Response) => ({
    status: response.status,
    body: await response.json(),
    headers: response.headers,
  });
  return {
    model,
    server,
    url,
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0 }),
    post: async (path, body) =>
      read(
        await fetch(url + path, {
          method: "POST",
          headers: { ...headers, "content-type": "application/json" },
          body: JSON.stringify(body),
        }),
      ),
    get: async (path) => read(await fetch(url + path, { headers })),
    async close() {
      await server.stop();
      await model.dispose();
    },
  };
}

/** Sends bytes over a socket of their own and reads until the server closes it, or `until` is in the answer. */
export function exchange(url: string, parts: readonly (string | number)[], until?: RegExp): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(Number(port), hostname);
    const finish = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("data", (data) => {
      answer += data.toString("latin1");
      if (until?.test(answer)) finish();
    });
    socket.on("close", finish);
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? finish() : reject(error),
    );
    socket.on("connect", async () => {
      for (const part of parts) {
        if (typeof part === "number") await new Promise((next) => setTimeout(next, part));
        else if (socket.writable) socket.write(part);
      }
    });
  });
}

/** Waits until something holds; the test's own time limit ends it otherwise. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
