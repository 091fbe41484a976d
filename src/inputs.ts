/** Files that belong to a request, not to a model: topologies and importance matrices. Their readers are loaded when asked for. */

import { IsqError } from "./errors.js";
import type { Imatrix } from "./files/imatrix-entry.js";
import { type ByteSource, fromBlob, readAll } from "./files/source.js";
import { LIMITS } from "./limits.js";
import { checkTemplate } from "./model/chat.js";
import type { TokenizerSource } from "./model/tokenizer.js";
import type { TopologyRule } from "./topology.js";

/** A path, where the runtime has files, or the file itself. */
export type InputFile = string | Blob;

/** What a file is called, without its folders. */
export function nameOfInput(file: InputFile): string {
  if (typeof file === "string") return file.replace(/^.*[/\\]/, "");
  return file instanceof File ? file.name : "blob";
}

/** Opens a file. Throws `source/open`, or `backend/unavailable` for a path where there are no files. */
export async function openInput(file: InputFile): Promise<ByteSource> {
  if (typeof file !== "string") return fromBlob(file, file instanceof File ? file.name : "blob");
  const { openFile } = await import("#platform");
  return openFile(file);
}

/** Reads a topology file. Throws `source/*`, `topology/*`, `type/unknown`. */
export async function readTopologyFile(file: InputFile): Promise<TopologyRule[]> {
  const { parseTopology } = await import("./files/topology.js");
  const source = await openInput(file);
  try {
    const bytes = await readAll(source, LIMITS.topologyBytes);
    return parseTopology(decode(bytes, source.name), source.name);
  } finally {
    await source.close?.();
  }
}

/** Reads a UTF-8 text. Throws `source/*`, and `source/format` when it is no such text. */
export async function readTextInput(file: InputFile): Promise<string> {
  const source = await openInput(file);
  try {
    const bytes = await readAll(source, LIMITS.textBytes);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    const details = { file: source.name, field: "text" };
    throw new IsqError("source/format", `${source.name} is not UTF-8 text`, details, { cause });
  } finally {
    await source.close?.();
  }
}

/** Reads a chat template: Jinja, or JSON with the field `chat_template`. Throws `source/*`, `tokenizer/invalid`. */
export async function readChatTemplate(file: InputFile): Promise<string> {
  const [text, name] = [await readTextInput(file), nameOfInput(file)];
  if (!/\.json$/i.test(name)) return checkTemplate(text, name);
  let template: unknown;
  try {
    template = JSON.parse(text)?.chat_template;
  } catch {} // told below
  if (typeof template === "string") return checkTemplate(template, name);
  const message = `${name} is no JSON with a string called chat_template`;
  throw new IsqError("tokenizer/invalid", message, { file: name, field: "chat_template" });
}

/** The folder of a tokenizer.json, and its name there. Throws `source/open`. */
export async function openTokenizerSource(path: string): Promise<TokenizerSource> {
  const { openDirectory } = await import("#platform");
  const [, folder = ".", file] = /^(.*[/\\])?([^/\\]*)$/.exec(path)!;
  return { directory: await openDirectory(folder), file };
}

/** Reads an importance matrix of any form. Throws `source/*`, `imatrix/*`, `gguf/*`. */
export async function readImatrix(file: InputFile): Promise<Imatrix> {
  const { openImatrix } = await import("./files/imatrix.js");
  const source = await openInput(file);
  try {
    return await openImatrix(source);
  } finally {
    await source.close?.();
  }
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new IsqError("topology/yaml", `${file} is not UTF-8 text`, { file, field: "text" }, { cause });
  }
}
