/** `isq serve`: the OpenAI-compatible server, or with `-i` a conversation in the terminal. */

import { basename } from "node:path";
import { type Command, Option } from "commander";
import { IsqError } from "../errors.js";
import type { TextModel } from "../run.js";
import type { RequestLog, RunningServer, ServeOptions } from "../server/index.js";
import type { TextModelBuilder } from "../text-model-builder.js";
import { buildModel, describeBackend } from "./build.js";
import {
  addModelForms,
  addQuantizationOptions,
  addRuntimeOptions,
  addTextOptions,
  type BuildOptions,
  checkImportanceUse,
  createFlag,
  parseCount,
} from "./options.js";
import { talk } from "./run.js";

interface ServerFlags {
  readonly serveIp: string;
  readonly port: number;
  readonly log?: string;
  readonly apiKey?: string;
  readonly allowWithoutKey?: boolean;
  readonly allowHost?: readonly string[];
  readonly corsOrigin?: readonly string[];
  readonly modelName?: string;
  readonly interactiveMode?: boolean;
  readonly truncateSequence?: boolean;
  readonly throughput?: boolean;
  readonly seed?: number;
}

/** Flags that have no meaning without a server. */
const SERVER_ONLY = [
  "serveIp",
  "port",
  "log",
  "apiKey",
  "allowWithoutKey",
  "allowHost",
  "corsOrigin",
  "modelName",
];
/** Backends that leave the thread free that answers requests. */
const SERVING_BACKENDS = ["auto", "threads"];

export function addServeCommand(program: Command): void {
  const command = program
    .command("serve")
    .description("serve a model over HTTP as the OpenAI interface has it, while it can be quantized again")
    .option("--serve-ip <address>", "address to listen on; others than this machine need a key", "127.0.0.1")
    .option("-p, --port <number>", "port to listen on; 0 takes a free one", parseCount(0, 65535), 1234)
    .option("-l, --log <file>", "append requests and answers to this file, as lines of JSON")
    .addOption(createFlag("apiKey"))
    .addOption(
      new Option("--allow-without-key", "let others than this machine in without a key").conflicts("apiKey"),
    )
    .option(
      "--allow-host <names...>",
      "further names that the server answers to, beside localhost and addresses",
    )
    .option(
      "--cors-origin <origins...>",
      "origins whose pages may use the server, * for all; none when left out",
    )
    .option("--model-name <name>", "as /v1/models names the model; the name of its folder when left out")
    .addOption(
      new Option("-i, --interactive-mode", "talk in the terminal instead of serving").conflicts(SERVER_ONLY),
    )
    .addOption(createFlag("truncateSequence", { short: "t" }))
    .addOption(createFlag("throughput"))
    .addOption(createFlag("seed", { short: "s" }));
  addTextOptions(addRuntimeOptions(addQuantizationOptions(command)), { n: true, c: true });
  addModelForms<ServerFlags>(command, async (builder, options) => {
    if (options.interactiveMode) {
      checkImportanceUse(options);
      return talk(builder, options);
    }
    checkServing(options);
    await serve(builder, options);
  });
}

/** What would be refused, or do nothing, once the model is there. */
function checkServing({ backend, throughput }: ServerFlags & BuildOptions): void {
  if (throughput) {
    const message = "--throughput needs --interactive-mode; a server tells the speed in every answer's usage";
    throw new IsqError("option/conflict", message, { field: "throughput" });
  }
  if (backend === undefined || SERVING_BACKENDS.includes(backend)) return;
  const message = `a server does not run on ${backend}, which would hold up all requests; take ${SERVING_BACKENDS.join(" or ")}`;
  throw new IsqError("option/unsupported", message, {
    field: "backend",
    value: backend,
    limit: SERVING_BACKENDS,
  });
}

async function serve(builder: TextModelBuilder, options: ServerFlags & BuildOptions): Promise<void> {
  await builder.plan(); // what cannot be done is refused before anybody can connect
  const { startServer, openLog } = await import("../server/index.js");
  const log = options.log === undefined ? {} : { log: openRequestLog(options.log, openLog) };
  let load: (model: TextModel | Promise<TextModel>) => void = () => {};
  const loading = new Promise<TextModel>((resolve) => (load = resolve));
  const server = await startServer(loading, { ...serveOptions(options), ...log });
  process.stdout.write(`listening on ${server.url}\n`);
  const loadStop = new AbortController();
  const { stopped, forget } = untilSignal(() => loadStop.abort("the server stops"));
  try {
    load(buildModel(builder, loadStop.signal));
    const model = await server.ready;
    process.stdout.write(`ready: ${describeServed(model, options)}\n`);
    await stopped;
    await stop(server, model);
  } catch (error) {
    await server.stop();
    throw error;
  } finally {
    forget();
  }
}

function openRequestLog(path: string, open: (path: string) => RequestLog): RequestLog {
  try {
    return open(path);
  } catch (cause) {
    const message = `cannot write ${path}: ${(cause as Error).message}`;
    throw new IsqError("output/write", message, { file: path, field: "log" }, { cause });
  }
}

function serveOptions(options: ServerFlags & BuildOptions): ServeOptions {
  const { apiKey, allowHost, corsOrigin, seed } = options;
  return {
    host: options.serveIp,
    port: options.port,
    modelId: nameOf(options),
    allowWithoutKey: options.allowWithoutKey ?? false,
    truncate: options.truncateSequence ?? false,
    ...(apiKey !== undefined && { apiKey }),
    ...(allowHost && { allowedHosts: allowHost }),
    ...(corsOrigin && { corsOrigins: corsOrigin }),
    ...(seed !== undefined && { seed }),
  };
}

function nameOf({ modelName, modelId }: ServerFlags & BuildOptions): string {
  return modelName ?? (basename(modelId) || "default");
}

function describeServed(model: TextModel, options: ServerFlags & BuildOptions): string {
  const { requested, totals } = model.plan;
  const bits = `${totals.bitsPerWeight.toFixed(3)} bits per weight`;
  return `${nameOf(options)}, ${requested ?? "as its files have it"}, ${bits}, on ${describeBackend(model)}`;
}

/** Resolves at the first SIGTERM or SIGINT, and calls `begin`; the second ends the process. */
function untilSignal(begin: () => void): { stopped: Promise<void>; forget: () => void } {
  let resolve: () => void = () => {};
  const stopped = new Promise<void>((done) => (resolve = done));
  let count = 0;
  const hear = (signal: NodeJS.Signals) => {
    if (++count > 1) process.exit(signal === "SIGINT" ? 130 : 143);
    begin();
    resolve();
  };
  process.on("SIGTERM", hear).on("SIGINT", hear);
  return { stopped, forget: () => void process.off("SIGTERM", hear).off("SIGINT", hear) };
}

async function stop(server: RunningServer, model: TextModel): Promise<void> {
  const { running, waiting } = model.load;
  process.stderr.write(`stopping; ${running + waiting} texts may finish, and a second signal ends them\n`);
  await server.stop();
  await model.dispose();
}
