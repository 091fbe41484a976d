/** `/v1/models`, tokens, and whether the server lives. */

import { Hono } from "hono";
import { checkToken } from "../../backends/interpreter.js";
import { VERSION } from "../../version.js";
import { ApiError } from "../errors.js";
import { openRequest } from "../request.js";
import { detokenizeSchema, tokenizeSchema } from "../schema.js";
import { type AppEnv, type Served, type ServerState, servedModel } from "../state.js";

export function modelRoutes(state: ServerState): Hono<AppEnv> {
  const tokenize = tokenizeSchema();
  const detokenize = detokenizeSchema();
  return new Hono<AppEnv>()
    .get("/v1/models", (context) =>
      context.json({ object: "list", data: [describeModel(servedModel(state))] }),
    )
    .get("/v1/models/:id{.+}", (context) => {
      const served = servedModel(state);
      const id = context.req.param("id");
      if (id === served.id || id === "default") return context.json(describeModel(served));
      throw new ApiError(404, "model_not_found", `the only model here is ${served.id}`, { param: "model" });
    })
    .post("/tokenize", async (context) => {
      const { body, signal } = await openRequest(context, state, tokenize);
      const { encoder } = servedModel(state);
      const tokens = await encoder.encode(body.text, body.add_special_tokens !== false, signal);
      return context.json({ tokens, count: tokens.length });
    })
    .post("/detokenize", async (context) => {
      const { body } = await openRequest(context, state, detokenize);
      const { tokenizer, vocabulary } = servedModel(state).model;
      for (const [index, token] of body.tokens.entries()) checkToken(token, vocabulary, index);
      const options = { skipSpecialTokens: body.skip_special_tokens !== false };
      return context.json({ text: tokenizer.decode(body.tokens, options) });
    })
    .get("/health", (context) => {
      const status = statusOf(state);
      return context.json({ status, version: VERSION }, status === "ok" ? 200 : 503);
    })
    .get("/metrics", (context) => {
      const { served } = state;
      const memory = process.memoryUsage();
      const load = served?.model.load;
      const text = state.metrics.render({
        isq_up: [state.served && !state.draining ? 1 : 0, "Whether the model takes requests"],
        isq_open_requests: [state.requests.size, "Requests with a body that are being answered"],
        isq_running_texts: [load?.running ?? 0, "Texts that run"],
        isq_waiting_texts: [load?.waiting ?? 0, "Texts that wait for a place"],
        isq_places: [load?.maxSequences ?? 0, "Texts that may run at the same time"],
        isq_cache_blocks: [load?.cacheBlocks ?? 0, "Blocks of the key-value cache"],
        isq_cache_blocks_free: [load?.freeCacheBlocks ?? 0, "Blocks that a text can get"],
        isq_weights_bytes: [served?.model.plan.totals.byteLength ?? 0, "Bytes of the weights"],
        process_resident_memory_bytes: [memory.rss, "Resident memory"],
        nodejs_heap_used_bytes: [memory.heapUsed, "Heap in use"],
        process_uptime_seconds: [process.uptime(), "Seconds since the start"],
      });
      return context.text(text, 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
    });
}

function statusOf({ draining, served, failure }: ServerState): "ok" | "stopping" | "loading" | "failed" {
  if (draining) return "stopping";
  if (served) return "ok";
  return failure === undefined ? "loading" : "failed";
}

function describeModel({ model, id, createdSeconds }: Served) {
  const { requested, totals } = model.plan;
  return {
    id,
    object: "model",
    created: createdSeconds,
    owned_by: "local",
    isq: requested,
    context_length: model.contextLength,
    vocabulary: model.vocabulary,
    byte_length: totals.byteLength,
    backend: model.backendName,
    threads: model.workers,
  };
}
