import { describe, expect, test } from "vitest";
import { type Kernels, shareStart, walk } from "../../src/backends/interpreter.js";
import type { Batch } from "../../src/backends/program.js";
import { compileModel } from "../../src/model/architectures/index.js";
import { parseConfig } from "../../src/model/config.js";

const program = compileModel(
  parseConfig(
    JSON.stringify({
      model_type: "llama",
      hidden_size: 24,
      intermediate_size: 40,
      num_hidden_layers: 2,
      num_attention_heads: 3,
      num_key_value_heads: 1,
      vocab_size: 100,
      max_position_embeddings: 64,
    }),
  ),
);

const batch: Batch = {
  tokens: Int32Array.of(1, 2, 3, 4, 5),
  positions: Int32Array.of(0, 1, 2, 3, 4),
  sequences: new Int32Array(5),
  blockTables: [Int32Array.of(0)],
  outputs: Int32Array.of(4),
};

/** Kernels that only write down, per phase, which units they were given. */
function record(index: number, count: number) {
  const phases: { name: string; units: number[] }[] = [{ name: "", units: [] }];
  const note = (name: string) => (_: unknown, first: number, last: number) => {
    phases[phases.length - 1] = { name, units: Array.from({ length: last - first }, (_, i) => first + i) };
  };
  const names = [
    "embed",
    "rmsNorm",
    "prepare",
    "linear",
    "rope",
    "store",
    "attend",
    "gate",
    "add",
    "select",
  ] as const;
  const kernels = Object.fromEntries(names.map((name) => [name, note(name)])) as unknown as Kernels;
  walk(program, batch, kernels, { index, count }, () => phases.push({ name: "", units: [] }));
  return phases.slice(0, -1);
}

describe("the walk", () => {
  const whole = record(0, 1);

  test("does every unit of every phase", () => {
    const units = whole.map((phase) => phase.units.length);
    const perLayer = [5, 5, 24, 5, 8, 5, 8, 15, 5, 5, 15, 5, 24, 120, 5, 5, 40, 5, 40, 200, 5, 24, 120];
    expect(units).toEqual([5, ...perLayer, ...perLayer, 1, 1, 1, 100]);
  });

  test.each([2, 3, 7])(
    "%i parts share each phase: nothing twice, nothing left out, as many barriers",
    (count) => {
      const parts = Array.from({ length: count }, (_, index) => record(index, count));
      for (const part of parts) expect(part).toHaveLength(whole.length);
      for (const [i, phase] of whole.entries()) {
        expect(parts.flatMap((part) => part[i].units)).toEqual(phase.units);
      }
    },
  );
});

test("shares are whole grains, as even as that allows", () => {
  expect([0, 1, 2, 3].map((index) => shareStart(100, 16, index, 3))).toEqual([0, 32, 64, 100]);
  expect([0, 1, 2].map((index) => shareStart(5, 1, index, 2))).toEqual([0, 2, 5]);
  expect([0, 1, 2].map((index) => shareStart(0, 16, index, 2))).toEqual([0, 0, 0]);
});
