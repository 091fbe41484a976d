/** Sockets: what a connection may do, how the server starts and how it stops. */

import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { getRequestListener, RequestError } from "@hono/node-server";
import { IsqError } from "../errors.js";
import type { TextModel } from "../run.js";
import { type AppOptions, createApp, createState } from "./app.js";
import { openEncoder } from "./encoder.js";
import { ApiError, errorBody, errorResponse, toApiError } from "./errors.js";
import { createJobs } from "./re-isq-jobs.js";

export interface ServeOptions extends AppOptions {
  /** 127.0.0.1 when absent: only this machine. */
  readonly host?: string;
  /** 1234 when absent; 0 takes a free one. */
  readonly port?: number;
  /** Listen where others can connect without a key. */
  readonly allowWithoutKey?: boolean;
  /** As /v1/models names the model; `default` when absent. */
  readonly modelId?: string;
}

/** A server that listens. */
export interface RunningServer {
  readonly url: string;
  /** The model takes requests. Rejects when it cannot be loaded: the server then answers 503. */
  readonly ready: Promise<TextModel>;
  /** Takes no more requests, lets running texts finish for a while, ends the rest, and closes. The model stays open. */
  stop(): Promise<void>;
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

/**
 * Listens, and answers 503 until the model is there. Throws `option/conflict` for an address that others can reach when
 * there is no key, `option/invalid` for one that cannot be had, and, from `ready`, `option/unsupported` for a model on a
 * backend that would run on the thread that answers requests.
 */
export async function startServer(
  loading: TextModel | Promise<TextModel>,
  options: ServeOptions = {},
): Promise<RunningServer> {
  const { host = "127.0.0.1", port = 1234, modelId = "default" } = options;
  checkExposure(host, options);
  const stopping = new AbortController();
  const state = createState(options, stopping.signal);
  const { limits } = state;
  const app = createApp(state, options);
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: Math.min(1000, limits.headersMs),
      requireHostHeader: false, // the guard refuses its absence in the form of the other errors
    },
    getRequestListener(app.fetch, { overrideGlobalObjects: false, errorHandler: refuseRequest }),
  );
  server.maxConnections = limits.connections;
  server.on("clientError", refuseConnection);
  const url = await listen(server, host, port);
  const ready = Promise.resolve(loading).then((model) => {
    checkBackend(model);
    state.served = {
      model,
      id: modelId,
      createdSeconds: Math.floor(Date.now() / 1000),
      encoder: openEncoder(model.tokenizer, model.contextLength, limits),
      jobs: createJobs(stopping.signal),
    };
    return model;
  });
  ready.catch((error) => {
    state.failure = error;
  });
  return {
    url,
    ready,
    async stop() {
      state.draining = true;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const late = setTimeout(() => stopping.abort("the server stops"), limits.drainMs);
      const cut = setTimeout(() => server.closeAllConnections(), limits.drainMs + 1000);
      await closed;
      clearTimeout(late);
      clearTimeout(cut);
      stopping.abort("the server has stopped");
      await state.served?.encoder.close();
      state.log?.flush();
    },
  };
}

function checkExposure(host: string, { apiKey, allowWithoutKey }: ServeOptions): void {
  if (apiKey === "") throw new IsqError("option/invalid", "the API key is empty", { field: "apiKey" });
  if (LOOPBACK.test(host) || apiKey !== undefined || allowWithoutKey) return;
  const message = `others can reach ${host}: set a key (--api-key), or let them in (--allow-without-key)`;
  throw new IsqError("option/conflict", message, { field: "host", value: host });
}

/** Steps of these backends run on the calling thread, and no request would be answered meanwhile. */
function checkBackend({ backendName }: TextModel): void {
  if (backendName !== "wasm" && backendName !== "reference") return;
  const message = `the server does not run on ${backendName}, which would hold up all requests; take threads`;
  throw new IsqError("option/unsupported", message, { field: "backend", value: backendName });
}

function listen(server: Server, host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on ${host}:${port}: ${cause.message}`;
      reject(new IsqError("option/invalid", message, { field: "port", value: port }, { cause }));
    });
    server.listen(port, host, () => {
      const { address, family, port: taken } = server.address() as AddressInfo;
      resolve(`http://${family === "IPv6" ? `[${address}]` : address}:${taken}`);
    });
  });
}

const PARSER_ERRORS: Readonly<Record<string, readonly [number, string, string]>> = {
  HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large", "the headers are too long"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "Request Timeout", "the request took too long to arrive"],
};

/** What is no request for the routes: without a host, or with a target that is no path. */
function refuseRequest(error: unknown): Response {
  if (!(error instanceof RequestError)) return errorResponse(toApiError(error));
  return errorResponse(new ApiError(400, "bad_request", error.message));
}

/** What the parser refuses never becomes a request, and is told in the same form. */
function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const [status, reason, message] = PARSER_ERRORS[error.code ?? ""] ?? [
    400,
    "Bad Request",
    "this is not HTTP",
  ];
  const body = JSON.stringify(errorBody(new ApiError(status, "bad_request", message)));
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
