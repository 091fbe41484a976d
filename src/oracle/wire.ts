/**
 * The two formats of a stream of vectors, for writing; judge.ts reads the answers. docs/oracle.md shows both.
 *
 * JSON lines: a header line, then one line per case with its parts in base64. An answer stream repeats the header line
 * and has one line {"case":0,"answer":"BASE64"} per case. Binary: a header of 64 bytes, then the parts of every case
 * without anything between; the answer stream repeats the header, then the answers. All numbers little-endian.
 */

import { IsqError } from "../errors.js";
import type { VectorCase } from "./cases.js";
import { inputBytes } from "./cases.js";
import { answerByteLength, GENERATION, inputByteLengths, makeSpec, type VectorSpec } from "./spec.js";

/** JSON lines with base64, or packed binary; `docs/oracle.md` describes both. */
export const STREAM_FORMATS = ["json", "binary"] as const;
/** One of {@link STREAM_FORMATS}. */
export type StreamFormat = (typeof STREAM_FORMATS)[number];

export const FORMAT_NAME = "isq-vectors/1";
const MAGIC = "ISQVEC1\n";
export const HEADER_BYTES = 64;

/** Where each field of the binary header lies: texts are ASCII padded with NUL, numbers are u32. */
const TEXTS = { magic: [0, 8], operation: [8, 8], type: [16, 8], algorithm: [24, 12] } as const;
const WORDS = {
  importance: 36,
  seed: 40,
  count: 44,
  columns: 48,
  inputBytes: 52,
  answerBytes: 56,
  generation: 60,
} as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Everything that a header says. */
function headerFields(spec: VectorSpec) {
  const inputByteLength = Object.values(inputByteLengths(spec)).reduce((a, b) => a + b, 0);
  return {
    format: FORMAT_NAME,
    generation: GENERATION,
    ...spec,
    inputBytes: inputByteLength,
    answerBytes: answerByteLength(spec),
  };
}

/** What a stream begins with: the spec that its cases follow. */
export function writeHeader(format: StreamFormat, spec: VectorSpec): Uint8Array {
  const fields = headerFields(spec);
  if (format === "json") return encoder.encode(`${JSON.stringify(fields)}\n`);
  const out = new Uint8Array(HEADER_BYTES);
  const view = new DataView(out.buffer);
  for (const [name, [offset]] of Object.entries(TEXTS)) {
    out.set(encoder.encode(name === "magic" ? MAGIC : String(fields[name as "type"])), offset);
  }
  for (const [name, offset] of Object.entries(WORDS)) {
    view.setUint32(offset, Number(fields[name as keyof typeof WORDS]), true);
  }
  return out;
}

/** A case as a program under test reads it. */
export function writeCase(format: StreamFormat, asked: VectorCase): Uint8Array {
  if (format === "binary") return inputBytes(asked);
  const parts = Object.entries(asked.parts).map(([name, bytes]) => [name, toBase64(bytes)]);
  const line = { case: asked.index, kind: asked.kind, ...Object.fromEntries(parts) };
  return encoder.encode(`${JSON.stringify(line)}\n`);
}

/** An answer as a program under test prints it. */
export function writeAnswer(format: StreamFormat, index: number, answer: Uint8Array): Uint8Array {
  if (format === "binary") return answer;
  return encoder.encode(`${JSON.stringify({ case: index, answer: toBase64(answer) })}\n`);
}

/** The spec of a header line. Throws `vectors/header`. */
export function parseHeaderLine(line: Uint8Array): VectorSpec {
  let fields: unknown;
  try {
    fields = JSON.parse(decoder.decode(line));
  } catch {
    throw badHeader("the first line is not JSON");
  }
  return specOf(fields);
}

/** The spec of a binary header. Throws `vectors/header`. */
export function parseBinaryHeader(bytes: Uint8Array): VectorSpec {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = ([offset, length]: readonly [number, number]) =>
    String.fromCharCode(...bytes.subarray(offset, offset + length)).replace(/\0+$/, "");
  if (text(TEXTS.magic) !== MAGIC) throw badHeader("it starts neither with { nor with ISQVEC1");
  const words = Object.entries(WORDS).map(([name, offset]) => [name, view.getUint32(offset, true)]);
  const { importance, ...numbers } = Object.fromEntries(words);
  const [operation, type, algorithm] = [text(TEXTS.operation), text(TEXTS.type), text(TEXTS.algorithm)];
  return specOf({
    format: FORMAT_NAME,
    operation,
    type,
    algorithm,
    importance: importance === 1,
    ...numbers,
  });
}

function specOf(header: unknown): VectorSpec {
  if (typeof header !== "object" || header === null) throw badHeader("it is not an object");
  const fields = header as Record<string, unknown>;
  if (fields["format"] !== FORMAT_NAME) throw badHeader(`its format is not ${FORMAT_NAME}`);
  if (fields["generation"] !== GENERATION) {
    throw badHeader(
      `its cases are of generation ${fields["generation"]}, this isq makes generation ${GENERATION}`,
    );
  }
  let spec: VectorSpec;
  try {
    spec = makeSpec({
      operation: String(fields["operation"]),
      type: String(fields["type"]),
      algorithm: String(fields["algorithm"]),
      importance: fields["importance"] === true,
      seed: Number(fields["seed"]),
      count: Number(fields["count"]),
      columns: Number(fields["columns"]),
    });
  } catch (cause) {
    throw badHeader((cause as Error).message);
  }
  for (const [name, value] of Object.entries(headerFields(spec))) {
    if (fields[name] !== value) throw badHeader(`its ${name} is ${fields[name]}, not ${value}`);
  }
  return spec;
}

const badHeader = (reason: string): IsqError =>
  new IsqError("vectors/header", `the stream's header cannot be used: ${reason}`, {
    field: "header",
    reason,
  });

/** In pieces, so that no argument list grows with the data. */
export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return btoa(text);
}

/** Undefined when the text is not base64. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
