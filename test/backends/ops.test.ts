/** Single operations on every backend: odd widths, special values, the reference's bits. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend, Tensor } from "../../src/backends/backend.js";
import { type Activation, CACHE_BLOCK, type Program, type Slot } from "../../src/backends/program.js";
import { reference } from "../../src/backends/reference.js";
import { threads } from "../../src/backends/threads.js";
import { wasm } from "../../src/backends/wasm.js";
import { createBuilder, type ProgramBuilder } from "../../src/model/builder.js";
import { bits } from "../model/support.js";

/** No multiple of what lanes, cache lines and members take. */
const WIDTH = 37;
const TOKENS = 23;
const SPECIAL = [
  ...[0, -0, 1, -1, 0.25, -0.25, 0.5, -0.5, 1e-8, -1e-8, 3, -3, 10, -10, 88, -88, 100, -100],
  ...[1e-39, 3e38, -3e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
];

const noise = (length: number, seed: number, scale = 3) =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed * 78.233) * scale);
const special = (length: number) =>
  Float32Array.from({ length }, (_, i) => SPECIAL[(i * 7) % SPECIAL.length]);

interface Draft {
  readonly builder: ProgramBuilder;
  /** Two inputs, by token: noise, and special values. */
  readonly a: Slot;
  readonly b: Slot;
  readonly out: Slot;
  slot(name: string, width: number, rowsPerToken?: number): Slot;
}

/** Embeds two tables, does `write`, and reads `out` as logits. */
function programOf(write: (draft: Draft) => void): Program {
  const builder = createBuilder();
  const slot = (name: string, width: number, rowsPerToken = 1) => builder.slot(name, width, { rowsPerToken });
  const [a, b, out] = ["a", "b", "out"].map((name) => slot(name, WIDTH));
  for (const [name, target] of [
    ["a", a],
    ["b", b],
  ] as const) {
    const weight = builder.weight({ name, role: "embedding", layer: null }, [WIDTH, WIDTH]);
    builder.push({ kind: "embed", weight, out: target, index: name === "a" ? "tokens" : "positions" });
  }
  write({ builder, a, b, out, slot });
  const logits = builder.slot("logits", WIDTH, { rows: "outputs" });
  builder.push({ kind: "select", x: out, out: logits });
  return builder.finish(logits, 64);
}

/** `spoiled` weights are NaN. */
async function run(backend: Backend, program: Program, spoiled = /^$/): Promise<Uint32Array> {
  const session = await backend.open(program, { cachePositions: 64 });
  for (const [index, { name, shape }] of program.weights.entries()) {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = name === "b" ? special(count) : noise(count, index);
    if (spoiled.test(name)) values.fill(Number.NaN);
    const tensor: Tensor = { type: "F32", shape, data: new Uint8Array(values.buffer) };
    await session.place(index, tensor);
  }
  const rows = Int32Array.from({ length: TOKENS }, (_, i) => i);
  const logits = await session.run({
    tokens: rows.map((row) => (row * 5) % WIDTH),
    positions: rows,
    sequences: new Int32Array(TOKENS),
    blockTables: [Int32Array.of(1)],
    outputs: rows,
    callLengths: rows.map((row) => row + 1),
  });
  await session.dispose();
  return bits(logits);
}

/** NaN has many patterns, of which none is promised. */
function expectSameBits(actual: Uint32Array, expected: Uint32Array): void {
  const noNumber = (word: number) => (word & 0x7fffffff) > 0x7f800000;
  const same = (i: number) => actual[i] === expected[i] || (noNumber(actual[i]) && noNumber(expected[i]));
  const different = [...expected.keys()].filter((i) => !same(i));
  expect(different).toEqual([]);
}

const ACTIVATIONS: readonly Activation[] = ["sigmoid", "silu", "geluTanh", "geluErf"];
const norm = { name: "norm", layer: 0 };

const PROGRAMS: Record<string, (draft: Draft) => void> = {
  "embed by position, scaled": ({ builder, out }) => {
    const weight = builder.weight({ name: "positions", role: "embedding", layer: null }, [64, WIDTH]);
    builder.push({ kind: "embed", weight, out, index: "positions", scale: 1.7 });
  },
  "rmsNorm with an offset": ({ builder, a, out }) =>
    builder.norm(a, out, { kind: "rms", epsilon: 1e-6, offset: 1 }, norm),
  layerNorm: ({ builder, a, out }) => builder.norm(a, out, { kind: "layer", epsilon: 1e-5 }, norm),
  "layerNorm in place": ({ builder, a, b, out }) => {
    builder.norm(a, a, { kind: "layer", epsilon: 1e-5 }, norm);
    builder.push({ kind: "add", a, b, out });
  },
  "add with a scale": ({ builder, a, b, out }) => builder.push({ kind: "add", a, b, out, scale: 0.3 }),
  scale: ({ builder, b, out }) => builder.push({ kind: "scale", x: b, out, factor: 1 / 3 }),
  softcap: ({ builder, b, out }) => builder.push({ kind: "softcap", x: b, out, cap: 30 }),
  "softcap in place": ({ builder, a, out }) => {
    builder.push({ kind: "softcap", x: a, out: a, cap: 1.5 });
    builder.push({ kind: "scale", x: a, out, factor: 1 });
  },
  "copies, of which one repeats a run": ({ builder, a, b, out }) => {
    const run = { kind: "copy", out } as const;
    builder.push({ ...run, x: a, xStart: 1, xStride: 7, outStart: 0, outStride: 9, count: 4, width: 6 });
    builder.push({ ...run, x: b, xStart: 30, xStride: 0, outStart: 6, outStride: 9, count: 4, width: 3 });
    builder.push({ ...run, x: a, xStart: 0, xStride: 0, outStart: 36, outStride: 0, count: 1, width: 1 });
  },
  "neighbours rotated, behind the start of each head": ({ builder, a, out, slot }) => {
    const heads = slot("heads", 36);
    builder.linear(a, heads, { name: "heads", layer: 0 });
    const table = builder.rope({
      rotaryWidth: 6,
      frequencies: Float64Array.of(1, 0.1, 0.01),
      magnitude: 1.25,
    });
    const long = {
      table: builder.rope({ rotaryWidth: 6, frequencies: Float64Array.of(2, 0.3, 0.04), magnitude: 1 }),
      beyond: 9,
    };
    builder.push({ kind: "rope", x: heads, headWidth: 12, start: 5, interleaved: true, table, long });
    builder.linear(heads, out, { name: "back", layer: 0 });
  },
  "attention with a cap, narrow values and a window": ({ builder, a, b, out, slot }) => {
    const [q, k, v, mixed] = [slot("q", 6 * 7), slot("k", 3 * 7), slot("v", 3 * 5), slot("mixed", 6 * 5)];
    builder.linear(a, q, { name: "q", layer: 0 });
    builder.linear(a, k, { name: "k", layer: 0 });
    builder.linear(a, v, { name: "v", layer: 0 });
    const widths = { heads: 6, kvHeads: 3, headWidth: 7, valueWidth: 5 };
    builder.push({
      kind: "attention",
      q,
      k,
      v,
      out: mixed,
      layer: 0,
      ...widths,
      scale: 0.4,
      softcap: 2.5,
      window: 6,
    });
    builder.linear(mixed, out, { name: "o", layer: 0 });
    builder.push({ kind: "add", a: out, b, out });
  },
};

for (const activation of ACTIVATIONS) {
  PROGRAMS[`${activation} of special values`] = ({ builder, b, out }) =>
    builder.push({ kind: "activate", x: b, out, activation });
  PROGRAMS[`a gate of ${activation}`] = ({ builder, a, b, out }) =>
    builder.push({ kind: "gate", gate: b, up: a, out, activation });
}

const ROUTERS = {
  softmax: { kind: "scores", scores: "softmax", scale: 1.5 },
  "softmax, made to sum to 1": { kind: "scores", scores: "softmax", normalize: { epsilon: 0 }, scale: 1 },
  "the best groups": {
    kind: "scores",
    scores: "sigmoid",
    groups: { count: 4, chosen: 2, rate: "twoLargest" },
    normalize: { epsilon: 1e-20 },
    scale: 2.5,
  },
  "one after the other": { kind: "sparseMixer", jitter: 0.01 },
} as const;

for (const [name, router] of Object.entries(ROUTERS)) {
  PROGRAMS[`experts: ${name}`] = ({ builder, a, out, slot }) => {
    const [experts, count] = [8, 3];
    const [logits, chosen, weights] = [
      slot("logits8", experts),
      slot("chosen", count),
      slot("weights", count),
    ];
    builder.linear(a, logits, { name: "router", layer: 0, role: "router" });
    builder.push({ kind: "route", x: logits, chosen, weights, router });
    const make = (name: string, rows: number, columns: number) =>
      Array.from({ length: experts }, (_, e) =>
        builder.weight({ name: `${name}${e}`, role: "expert", layer: 0 }, [rows, columns]),
      );
    const [inner, results] = [slot("inner", 29, count), slot("results", WIDTH, count)];
    builder.push({ kind: "expertLinear", x: a, chosen, experts: make("up", 29, WIDTH), out: inner });
    builder.push({ kind: "activate", x: inner, out: inner, activation: "silu" });
    builder.push({ kind: "expertLinear", x: inner, chosen, experts: make("down", WIDTH, 29), out: results });
    builder.push({ kind: "combine", x: results, weights, out });
  };
}

describe.each([
  ["wasm", () => wasm()],
  ["3 threads", () => threads({ workers: 3 })],
] as const)("%s", (_name, make) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await make();
  });
  afterAll(() => backend?.dispose());

  it.each(Object.entries(PROGRAMS))("%s", async (_title, write) => {
    const program = programOf(write);
    expectSameBits(await run(backend, program), await run(reference(), program));
  });
});

describe("experts", () => {
  it.each([
    ["reference", () => reference()],
    ["wasm", () => wasm()],
  ] as const)("are seen by the tokens that chose them and by no others: %s", async (_name, make) => {
    const backend: Backend = await make();
    const program = programOf(PROGRAMS["experts: softmax"]);
    const whole = await run(backend, program);
    const untouched = new Array(TOKENS).fill(0);
    for (let expert = 0; expert < 8; expert++) {
      const spoiled = await run(backend, program, new RegExp(`^up${expert}$`));
      for (let row = 0; row < TOKENS; row++) {
        const at = [row * WIDTH, (row + 1) * WIDTH] as const;
        const same = spoiled.slice(...at).every((word, i) => word === whole[at[0] + i]);
        if (same) untouched[row]++;
        else expect(new Float32Array(spoiled.buffer).subarray(...at).every(Number.isNaN)).toBe(true);
      }
    }
    expect(new Set(untouched)).toEqual(new Set([8 - 3]));
    await backend.dispose();
  });
});

it("blocks of the cache have as many positions as the programs here take", () => {
  expect(TOKENS).toBeLessThanOrEqual(CACHE_BLOCK);
});
