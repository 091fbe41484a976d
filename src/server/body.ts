/** JSON bodies: read up to a limit, checked before anything is built of them, validated by a schema. */

import type { z } from "zod";
import { ApiError } from "./errors.js";
import type { ServerLimits } from "./limits.js";

/** Reads a body as `schema` has it. Throws 413, 415 or 400 as {@link ApiError}, naming the field. */
export async function readBody<Schema extends z.ZodType>(
  request: Request,
  schema: Schema,
  limits: ServerLimits,
): Promise<z.output<Schema>> {
  const type = request.headers.get("content-type") ?? "";
  // A page of another origin can send any body but not this type without asking first (CWE-352).
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new ApiError(415, "unsupported_media_type", "the body must be application/json", {
      param: "content-type",
    });
  }
  const text = decode(await readBytes(request, limits.bodyBytes));
  checkDepth(text, limits.jsonDepth);
  const parsed = schema.safeParse(parse(text));
  if (parsed.success) return parsed.data;
  const { path, message } = plainest(parsed.error.issues[0]);
  const param = path.map(String).join(".");
  if (param === "") throw new ApiError(400, "invalid_value", `the body: ${message}`);
  throw new ApiError(400, "invalid_value", `${param}: ${message}`, { param });
}

/** Of a union, what was wrong with the alternative that came furthest. */
function plainest(issue: z.core.$ZodIssue): Pick<z.core.$ZodIssue, "path" | "message"> {
  if (issue.code !== "invalid_union") return issue;
  const found = issue.errors.flatMap(([first]) => (first ? [plainest(first)] : []));
  const [deepest] = found.toSorted((a, b) => b.path.length - a.path.length);
  if (!deepest) return issue;
  if (deepest.path.length > 0) return { path: [...issue.path, ...deepest.path], message: deepest.message };
  return { path: issue.path, message: found.map(({ message }) => message).join(", or ") };
}

async function readBytes(request: Request, limit: number): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > limit) throw tooLarge(limit);
  const parts: Uint8Array[] = [];
  let length = 0;
  if (request.body) {
    for await (const part of request.body as unknown as AsyncIterable<Uint8Array>) {
      length += part.length;
      if (length > limit) throw tooLarge(limit);
      parts.push(part);
    }
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function tooLarge(limit: number): ApiError {
  return new ApiError(413, "body_too_large", `the body must have at most ${limit} bytes`);
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, "invalid_utf8", "the body is not UTF-8 text");
  }
}

/** Recursion follows the nesting of a body (CWE-674): how deep it is shows without building it. */
function checkDepth(text: string, limit: number): void {
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (quoted) {
      if (code === 0x5c) at++;
      else if (code === 0x22) quoted = false;
    } else if (code === 0x22) quoted = true;
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > limit) throw new ApiError(400, "too_deep", `the body must nest at most ${limit} levels`);
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
}

function parse(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, "invalid_json", `the body is not JSON: ${(error as Error).message}`);
  }
  checkText(value, "");
  return value;
}

/** Half of a surrogate pair is no text: tokenizers make of it what they like. */
function checkText(value: unknown, path: string): void {
  if (typeof value === "string") {
    if (isWellFormed(value)) return;
    const field = path === "" ? {} : { param: path };
    throw new ApiError(400, "invalid_text", `${path || "the body"} holds half of a surrogate pair`, field);
  }
  if (typeof value !== "object" || value === null) return;
  for (const [key, item] of Object.entries(value)) {
    checkText(key, path);
    checkText(item, path === "" ? key : `${path}.${key}`);
  }
}

/** String.prototype.isWellFormed, which the library of this language version does not declare yet. */
function isWellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text);
}
