import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createAngles, growAngles } from "../../src/backends/angles.js";
import type { RopeTable } from "../../src/backends/program.js";
import { fieldsOf } from "../../src/model/fields.js";
import { parseRope, type RopeScaling, ropeTable, ropeUse } from "../../src/model/rope.js";

const WIDTH = 128;
const plain = (theta: number) => Array.from({ length: WIDTH / 2 }, (_, i) => theta ** ((-2 * i) / WIDTH));

function expectClose(actual: Float64Array, expected: readonly number[]) {
  expect(actual).toHaveLength(expected.length);
  for (const [i, frequency] of expected.entries())
    expect(Math.abs(actual[i] / frequency - 1)).toBeLessThan(1e-13);
}

describe("rope frequencies", () => {
  test("default and linear", () => {
    expectClose(ropeTable({ kind: "default", theta: 10000 }, WIDTH).frequencies, plain(10000));
    const quarter = plain(10000).map((frequency) => frequency / 4);
    expectClose(ropeTable({ kind: "linear", theta: 10000, factor: 4 }, WIDTH).frequencies, quarter);
  });

  test("llama3 keeps short waves, divides long ones and blends between", () => {
    const [factor, lowFactor, highFactor, originalContext] = [8, 1, 4, 8192];
    const scaling: RopeScaling = {
      kind: "llama3",
      theta: 500000,
      factor,
      lowFactor,
      highFactor,
      originalContext,
    };
    const kinds = new Set<string>();
    const expected = plain(500000).map((frequency) => {
      const wave = (2 * Math.PI) / frequency;
      if (wave < originalContext / highFactor) {
        kinds.add("kept");
        return frequency;
      }
      if (wave > originalContext / lowFactor) {
        kinds.add("divided");
        return frequency / factor;
      }
      kinds.add("blended");
      const smooth = (originalContext / wave - lowFactor) / (highFactor - lowFactor);
      return (1 - smooth) * (frequency / factor) + smooth * frequency;
    });
    expect(kinds.size).toBe(3);
    expectClose(ropeTable(scaling, WIDTH).frequencies, expected);
  });
});

/** What transformers' own rules give in binary64, for heads of 32. */
const EXPECTED: Record<string, { frequencies: number[]; magnitude: number }> = JSON.parse(
  readFileSync(new URL("../fixtures/rope/transformers-5.17.json", import.meta.url), "utf8"),
);

describe("scalings of transformers", () => {
  const read = (rope: object, others: object = {}) =>
    ropeUse(
      parseRope(fieldsOf({ max_position_embeddings: 4096, rope_parameters: rope, ...others }, "config.json")),
      32,
    );
  const check = ({ frequencies, magnitude }: RopeTable, name: string) => {
    expectClose(frequencies, EXPECTED[name].frequencies);
    expect(Math.abs(magnitude / EXPECTED[name].magnitude - 1)).toBeLessThan(1e-13);
  };

  test.each([
    ["yarn", { rope_theta: 1e6, factor: 4, original_max_position_embeddings: 1024 }],
    ["yarn deepseek", { factor: 40, original_max_position_embeddings: 128, mscale: 0.75, mscale_all_dim: 1 }],
    [
      "yarn untruncated",
      {
        rope_theta: 150000,
        factor: 32,
        original_max_position_embeddings: 4096,
        beta_fast: 16,
        beta_slow: 2,
        truncate: false,
        attention_factor: 1.25,
      },
    ],
  ])("%s", (name, rope) => {
    const { table, long } = read({ rope_type: "yarn", ...rope });
    check(table, name);
    expect(long).toBeUndefined();
  });

  const factors = (step: number) => Array.from({ length: 16 }, (_, i) => 1 + step * i);
  const longrope = { short_factor: factors(0.05), long_factor: factors(0.5) };

  test.each(["longrope", "su", "yarn"])("longrope under the name %s", (type) => {
    const newer = read({ rope_type: type, original_max_position_embeddings: 1024, ...longrope });
    const older = read(undefined!, {
      rope_scaling: { type, ...longrope },
      original_max_position_embeddings: 1024,
    });
    for (const { table, long } of [newer, older]) {
      check(table, "longrope short");
      check(long!.table, "longrope long");
      expect(long!.beyond).toBe(1024);
    }
  });

  test("magnitudes of their own for short and long", () => {
    const { table, long } = read({
      rope_type: "longrope",
      original_max_position_embeddings: 1024,
      ...longrope,
      short_mscale: 1.25,
      long_mscale: 1.5,
    });
    expect([table.magnitude, long!.table.magnitude]).toEqual([1.25, 1.5]);
  });

  test("lists of another length are refused", () => {
    const rope = { rope_type: "longrope", original_max_position_embeddings: 1024, ...longrope };
    expect(() => read({ ...rope, long_factor: [1, 2] })).toThrow(
      expect.objectContaining({ tag: "config/invalid" }),
    );
    expect(() => read({ ...rope, short_factor: undefined })).toThrow(
      expect.objectContaining({ tag: "config/missing" }),
    );
    expect(() => read({ ...rope, original_max_position_embeddings: 1 })).toThrow(
      expect.objectContaining({ tag: "config/invalid" }),
    );
  });
});

describe("angles", () => {
  test("are cosine and sine rounded once, however the table grows", () => {
    const table = ropeTable({ kind: "default", theta: 10000 }, 8);
    const grown = createAngles(table);
    for (const positions of [1, 65, 200]) growAngles(grown, positions);
    const whole = createAngles(table);
    growAngles(whole, grown.positions);
    expect(grown.cosines).toEqual(whole.cosines);
    expect(grown.sines).toEqual(whole.sines);
    for (const position of [0, 1, 63, 64, 199]) {
      for (let i = 0; i < 4; i++) {
        const angle = position * table.frequencies[i];
        expect(grown.cosines[4 * position + i]).toBeCloseTo(Math.cos(angle), 6);
        expect(grown.sines[4 * position + i]).toBeCloseTo(Math.sin(angle), 6);
      }
    }
    expect(grown.cosines[0]).toBe(1);
  });
});
