import { describe, expect, test } from "vitest";
import { createAngles, growAngles } from "../../src/backends/angles.js";
import { type RopeScaling, ropeTable } from "../../src/model/rope.js";

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
