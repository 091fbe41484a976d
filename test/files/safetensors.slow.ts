/** Headers as large as the format allows, made to cost more than they weigh: an answer in seconds, and in little memory. */

import { expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openSafetensors } from "../../src/files/safetensors.js";
import { type ByteSource, fromBytes } from "../../src/files/source.js";
import { LIMITS } from "../../src/limits.js";

const SIZE = LIMITS.safetensorsHeaderBytes - 1_000_000;
const EMPTY = '"dtype":"U8","shape":[0],"data_offsets":[0,0]';
const fill = (text: string) => text.repeat(Math.floor(SIZE / text.length));
/** Keys that all differ, each with the same value. */
const keys = (count: number, value: string) =>
  Array.from({ length: count }, (_, i) => `"${i.toString(36)}":${value}`).join(",");

function headerOf(text: string): ByteSource {
  const header = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + header.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  return fromBytes(bytes);
}

const HEADERS: readonly (readonly [string, () => string])[] = [
  ["arrays in arrays", () => `{"a":${fill("[")}`],
  ["arrays in arrays, in a field that readers skip", () => `{"a":{${EMPTY},"x":${fill("[")}}}`],
  ["objects in objects, in a field that readers skip", () => `{"a":{${EMPTY},"x":${fill('{"":')}}}`],
  ["arrays side by side", () => `{"a":[${fill("[],")}[]]}`],
  ["arrays side by side, in a field that readers skip", () => `{"a":{${EMPTY},"x":[${fill("[],")}[]]}}`],
  ["a shape of millions of ones", () => `{"a":{"dtype":"U8","shape":[${fill("1,")}1],"data_offsets":[0,1]}}`],
  [
    "a number of millions of digits",
    () => `{"a":{"dtype":"U8","shape":[${fill("1")}],"data_offsets":[0,1]}}`,
  ],
  ["a name of millions of escapes", () => `{"${fill("\\n")}":{${EMPTY}}}`],
  ["a dtype of millions of letters", () => `{"a":{"dtype":"${fill("x")}","shape":[],"data_offsets":[0,0]}}`],
  ["a string that does not end", () => `{"${fill("x")}`],
  ["millions of metadata", () => `{"__metadata__":{${keys(6_000_000, '""')}}}`],
  ["millions of fields of one tensor", () => `{"a":{${EMPTY},${keys(6_000_000, "0")}}}`],
  ["spaces", () => `{${fill(" ")}}`],
];

test.each(HEADERS)("%s", async (_what, make) => {
  const source = headerOf(make());
  const memory = process.memoryUsage().rss;
  const started = performance.now();
  try {
    await openSafetensors(source);
  } catch (error) {
    if (!isIsqError(error)) throw error;
    // An error carries a sentence, not the header.
    expect(error.message.length).toBeLessThan(1000);
  }
  expect(performance.now() - started).toBeLessThan(20_000);
  expect((process.memoryUsage().rss - memory) / SIZE).toBeLessThan(12);
});

test("a million tensors take about ten times as long as a hundred thousand", async () => {
  const time = async (count: number) => {
    const source = headerOf(`{${keys(count, `{${EMPTY}}`)}}`);
    const started = performance.now();
    expect((await openSafetensors(source)).tensors.size).toBe(count);
    return performance.now() - started;
  };
  await time(1000);
  const few = await time(100_000);
  expect(await time(1_000_000)).toBeLessThan(30 * few);
});
