/**
 * llama.cpp's own loader of importance matrices, called live: it gets from our files what we wrote, and from its older form
 * what we read. The loader is C++; its structures (libstdc++: a string, a map, vectors) are laid out by hand.
 */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { meansOf } from "../../src/files/imatrix.js";
import {
  fromBytes,
  type ImatrixEntry,
  openImatrix,
  writeImatrixGguf,
  writeLegacyImatrix,
} from "../../src/index.js";

const LOAD = "_Z19common_imatrix_loadRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEER14common_imatrix";

interface Loaded {
  readonly entries: Map<string, ImatrixEntry>;
  readonly datasets: readonly string[];
  readonly chunks: number;
  readonly chunkTokens: number;
  readonly legacy: boolean;
}

async function openLoader(): Promise<(path: string) => Loaded | null> {
  const { default: koffi } = await import("koffi");
  const binaries: string = "@node-llama-cpp/linux-x64";
  const { getBinsDir } = (await import(binaries)) as { getBinsDir(): { binsDir: string } };
  const folder = join(getBinsDir().binsDir, "linux-x64");
  koffi.load(join(folder, "libggml.v0.5.0.so"));
  const load = koffi.load(join(folder, "libllama-common.so")).func(`bool ${LOAD}(void *name, void *matrix)`);

  const bytesAt = (address: bigint, length: number) => new Uint8Array(koffi.view(address, length)).slice();
  const wordsAt = (address: bigint, count: number) => new BigUint64Array(bytesAt(address, 8 * count).buffer);
  /** A string or vector starts with the address of its content. */
  const text = (address: bigint): string => {
    const [start, length] = wordsAt(address, 2);
    return new TextDecoder().decode(bytesAt(start, Number(length)));
  };
  const vector = (address: bigint): Uint8Array => {
    const [start, end] = wordsAt(address, 2);
    return start === end ? new Uint8Array(0) : bytesAt(start, Number(end - start));
  };
  /** A node of a map: color, parent, left, right, then the key and the value. */
  const visit = (node: bigint, entries: Map<string, ImatrixEntry>): void => {
    if (node === 0n) return;
    const [, , left, right] = wordsAt(node, 4);
    visit(left, entries);
    const sums = new Float32Array(vector(node + 64n).buffer);
    const counts = [...new BigInt64Array(vector(node + 88n).buffer)].map(Number);
    entries.set(text(node + 32n), { sums, counts });
    visit(right, entries);
  };

  return (path) => {
    const memory = koffi.alloc("uint8", 4096);
    const matrix = koffi.address(memory);
    const words = new BigUint64Array(koffi.view(memory, 4096));
    words.fill(0n);
    const name = new TextEncoder().encode(path);
    new Uint8Array(words.buffer, words.byteOffset).set(name, 2048);
    words.set([matrix + 2048n, BigInt(name.length)], 128);
    // An empty map: its header, from the second word, is left and right of itself.
    words.set([matrix + 8n, matrix + 8n], 3);
    if (!load(matrix + 1024n, matrix)) return null;
    const entries = new Map<string, ImatrixEntry>();
    visit(words[2], entries);
    const [start, end] = words.subarray(6, 8);
    const datasets = Array.from({ length: Number(end - start) / 32 }, (_, i) =>
      text(start + 32n * BigInt(i)),
    );
    const [chunks, chunkTokens] = new Int32Array(words.buffer, words.byteOffset + 72, 2);
    return {
      entries,
      datasets,
      chunks,
      chunkTokens,
      legacy: new Uint8Array(words.buffer, words.byteOffset)[80] === 1,
    };
  };
}

test("llama.cpp reads the matrices that we write, value by value", async () => {
  const load = await openLoader();
  const path = join(mkdtempSync(join(tmpdir(), "isq-")), "matrix.gguf");
  const entries = new Map<string, ImatrixEntry>([
    [
      "blk.0.attn_q.weight",
      { sums: Float32Array.from({ length: 256 }, (_, i) => Math.fround(i / 7)), counts: [3] },
    ],
    ["blk.0.ffn_gate_exps.weight", { sums: Float32Array.of(1, 2, 3, 0, 0, 0), counts: [4, 0] }],
    ["output.weight", { sums: Float32Array.of(1e-30, 3e38), counts: [1] }],
  ]);
  const datasets = ["a text", "another text whose name is longer than fifteen bytes"];
  writeFileSync(path, await writeImatrixGguf({ entries, datasets, chunks: 5, chunkTokens: 512 }));
  expect(load(path)).toEqual({ entries, datasets, chunks: 5, chunkTokens: 512, legacy: false });

  const old = path.replace("gguf", "imatrix");
  writeFileSync(old, writeLegacyImatrix({ entries, datasets, chunks: 5 }));
  const means = new Map([...entries].map(([name, entry]) => [name, { sums: meansOf(entry), counts: [1] }]));
  expect(load(old)).toEqual({
    entries: means,
    datasets: [datasets.join(", ")],
    chunks: 5,
    chunkTokens: 0,
    legacy: true,
  });
});

test("of its older form we read what it reads", async () => {
  const load = await openLoader();
  for (const name of ["i1-good", "i5-zeros", "i3-width", "i9-chunks-only"]) {
    const path = `test/malformed/imatrix/${name}.imatrix`;
    const ours = await openImatrix(fromBytes(new Uint8Array(readFileSync(path))));
    const { entries, datasets, chunks = 0 } = ours;
    expect(load(path), name).toEqual({ entries, datasets, chunks, chunkTokens: 0, legacy: true });
  }
});

// It accepts more than we do: duplicates, cut trailers, sums over a count of 0.
test.each([
  "i1-no-counts.gguf",
  "i1-no-sums.gguf",
  "i1-half.gguf",
  "i1-other-kind.gguf",
  "i2-no-entries.gguf",
  "i1-entries-negative.imatrix",
  "i1-name-past-end.imatrix",
])("it refuses %s as we do", async (name) => {
  expect((await openLoader())(`test/malformed/imatrix/${name}`)).toBeNull();
});
