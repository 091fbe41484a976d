import { expect, test } from "vitest";
import { callLengthsOf, checkBatch, shareStart } from "../../src/backends/interpreter.js";
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

/** Two sequences, of which the second goes on at position 40. */
const batch: Batch = {
  tokens: Int32Array.of(1, 2, 3, 4, 5),
  positions: Int32Array.of(0, 1, 2, 40, 41),
  sequences: Int32Array.of(0, 0, 0, 1, 1),
  blockTables: [Int32Array.of(0), Int32Array.of(1, 2)],
  outputs: Int32Array.of(4),
};

test("shares are whole grains, as even as that allows", () => {
  expect([0, 1, 2, 3].map((index) => shareStart(100, 16, index, 3))).toEqual([0, 32, 64, 100]);
  expect([0, 1, 2].map((index) => shareStart(5, 1, index, 2))).toEqual([0, 2, 5]);
  expect([0, 1, 2].map((index) => shareStart(0, 16, index, 2))).toEqual([0, 0, 0]);
});

test("a call is as long as its batch says, or as the step makes its sequences", () => {
  expect([...callLengthsOf(batch)]).toEqual([3, 3, 3, 42, 42]);
  const callLengths = Int32Array.of(7, 7, 7, 41, 42);
  expect([...callLengthsOf({ ...batch, callLengths })]).toEqual([...callLengths]);
});

test("batches that would leave the program or the cache are refused", () => {
  checkBatch(program, batch, 3);
  const refused = (change: Partial<Batch>, blocks: number, tag: string) =>
    expect(() => checkBatch(program, { ...batch, ...change }, blocks)).toThrow(
      expect.objectContaining({ tag }),
    );
  refused({}, 2, "prompt/length");
  refused({ tokens: new Int32Array(0) }, 3, "prompt/empty");
  refused({ tokens: Int32Array.of(1, 2, 3, 4, 100) }, 3, "prompt/token");
  refused({ tokens: Int32Array.of(1, 2, 3, 4, -1) }, 3, "prompt/token");
  refused({ positions: Int32Array.of(0, 1, 2, 40, 64) }, 3, "prompt/length");
  refused({ positions: Int32Array.of(0, 1, 2, 40, -1) }, 3, "prompt/length");
  refused({ sequences: Int32Array.of(0, 0, 0, 1, 2) }, 3, "prompt/length");
  refused({ positions: Int32Array.of(0) }, 3, "shape/mismatch");
  refused({ outputs: Int32Array.of(5) }, 3, "shape/mismatch");
  refused({ callLengths: Int32Array.of(5) }, 3, "shape/mismatch");
});
