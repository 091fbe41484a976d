/** The interface in words of OpenAPI 3.1, from the schemas that check the requests. */

import { z } from "zod";
import { VERSION } from "../version.js";
import type { ServerLimits } from "./limits.js";
import {
  calibrationApplySchema,
  chatSchema,
  completionSchema,
  detokenizeSchema,
  perplexitySchema,
  planSchema,
  reIsqSchema,
  tokenizeSchema,
} from "./schema.js";

interface Route {
  readonly method: "get" | "post";
  readonly path: string;
  readonly summary: string;
  readonly body?: z.ZodType;
  /** Beside JSON. */
  readonly answers?: string;
}

/** Every route; a test compares the list with what the server answers to. */
export function routesOf(limits: ServerLimits): Route[] {
  const sse = "text/event-stream";
  return [
    {
      method: "post",
      path: "/v1/chat/completions",
      summary: "Continue a conversation",
      body: chatSchema(limits),
      answers: sse,
    },
    {
      method: "post",
      path: "/v1/completions",
      summary: "Continue a text",
      body: completionSchema(limits),
      answers: sse,
    },
    { method: "get", path: "/v1/models", summary: "The model" },
    { method: "get", path: "/v1/models/{id}", summary: "The model, by name" },
    { method: "post", path: "/tokenize", summary: "Text to token ids", body: tokenizeSchema() },
    { method: "post", path: "/detokenize", summary: "Token ids to text", body: detokenizeSchema() },
    { method: "get", path: "/v1/isq/plan", summary: "What is in force for each tensor" },
    {
      method: "post",
      path: "/v1/isq/plan",
      summary: "What another type would do to each tensor",
      body: planSchema(),
    },
    { method: "get", path: "/re_isq", summary: "The job that changes the weights, or the last one" },
    {
      method: "post",
      path: "/re_isq",
      summary: "Quantize to another type while texts run",
      body: reIsqSchema(),
    },
    { method: "post", path: "/v1/isq/perplexity", summary: "Perplexity of a text", body: perplexitySchema() },
    { method: "post", path: "/calibration/start", summary: "Collect importance from the texts that run" },
    { method: "get", path: "/calibration/status", summary: "How much was collected" },
    {
      method: "post",
      path: "/calibration/apply",
      summary: "Quantize again with the collected importance",
      body: calibrationApplySchema(),
    },
    { method: "get", path: "/health", summary: "Whether the model takes requests" },
    { method: "get", path: "/metrics", summary: "Counters for Prometheus", answers: "text/plain" },
  ];
}

export function openApi(limits: ServerLimits): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const { method, path, summary, body, answers } of routesOf(limits)) {
    const types = ["application/json", ...(answers ? [answers] : [])];
    const operation = {
      summary,
      operationId: `${method}${path.replace(/[^a-z]+(\w?)/gi, (_, next: string) => next.toUpperCase())}`,
      ...(path.includes("{id}") && {
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
      }),
      ...(body && {
        requestBody: {
          required: true,
          content: { "application/json": { schema: z.toJSONSchema(body, { io: "input" }) } },
        },
      }),
      responses: {
        200: { description: "Done", content: Object.fromEntries(types.map((type) => [type, {}])) },
        default: { $ref: "#/components/responses/Error" },
      },
    };
    paths[path] = { ...paths[path], [method]: operation };
  }
  return {
    openapi: "3.1.0",
    info: { title: "isq", version: VERSION, license: { name: "MIT" } },
    paths,
    security: [{}, { key: [] }],
    components: {
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
      responses: {
        Error: { description: "A refusal", content: { "application/json": { schema: ERROR_SCHEMA } } },
      },
    },
  };
}

const ERROR_SCHEMA = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"] },
        code: { type: "string" },
      },
    },
  },
};
