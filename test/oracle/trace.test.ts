/** The traced encoder is the reference once more: with strict arithmetic it gives the same bytes. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fusedMultiplyAdd, HYPOTHESES, STRICT } from "../../src/oracle/arithmetic.js";
import { makeCase } from "../../src/oracle/cases.js";
import { layoutOf, readBits, readBlock, writeBits } from "../../src/oracle/layout.js";
import { makeSpec } from "../../src/oracle/spec.js";
import { encodeRow } from "../../src/oracle/trace-row.js";
import { dequantize, quantize, TYPES } from "../../src/quants/index.js";
import { compareBytes } from "../suites/compare.js";

const BLOCK_TYPES = Object.values(TYPES).filter((row) => row.family === "block");
const SETTINGS = BLOCK_TYPES.flatMap(({ name: type, algorithms, importance }) =>
  algorithms.flatMap((algorithm) => [
    { type, algorithm, importance: false },
    ...(importance.includes(algorithm) ? [{ type, algorithm, importance: true }] : []),
  ]),
);

describe("the traced encoder", () => {
  test.each(SETTINGS)("$type $algorithm, importance $importance", ({ type, algorithm, importance }) => {
    const spec = makeSpec({ type, algorithm, importance, seed: 11, count: 100, columns: 512 });
    for (let i = 0; i < spec.count; i++) {
      const { values, importance: weights } = makeCase(spec, i) as {
        values: Float32Array;
        importance?: Float32Array;
      };
      const expected = quantize(type, values, {
        shape: [512],
        algorithm,
        ...(weights && { importance: weights }),
      });
      const traced = encodeRow({ type, algorithm, values, importance: weights });
      expect(compareBytes(type, traced, expected.data), `case ${i}`).toBeUndefined();
    }
  });
});

describe("layouts", () => {
  test.each(BLOCK_TYPES)("$name: every bit belongs to one number", ({ name, blockBytes, fields }) => {
    const layout = layoutOf(name);
    if (!layout) throw new Error(`${name} has no layout`);
    const seen = new Uint8Array(blockBytes * 8);
    for (const { byte, shift, width } of [layout.codes, layout.scales, layout.mins].flat(2)) {
      for (let bit = shift; bit < shift + width; bit++) seen[8 * byte + bit]++;
    }
    for (const { kind, offset, byteLength } of fields) {
      if (["f16", "f32", "i16"].includes(kind)) seen.fill(1, 8 * offset, 8 * (offset + byteLength));
    }
    expect(seen.every((count) => count === 1)).toBe(true);
  });

  test.each(BLOCK_TYPES)("$name: what a block says decodes to its values", ({ name, blockBytes, fields }) => {
    const bytes = fc.uint8Array({ minLength: blockBytes, maxLength: blockBytes });
    const property = fc.property(bytes, (block) => {
      for (const { kind, offset } of fields) if (kind === "f16") block[offset + 1] = 0x2c;
      if (name === "Q8K") block.set([0, 0, 0, 0x3d], 0);
      const { scales, subScales, subMins, codes } = readBlock(name, block);
      const sub = layoutOf(name)?.subElements as number;
      const decoded = dequantize({ type: name, algorithm: "ggml", shape: [codes.length], data: block });
      codes.forEach(({ value }, i) => {
        const j = Math.floor(i / sub);
        const scale = scales["d"] * (subScales[j]?.value ?? 1);
        const low = name.endsWith("_1")
          ? (scales["m"] ?? 0)
          : -(scales["dmin"] ?? 0) * (subMins[j]?.value ?? 0);
        const near = Math.fround(Math.fround(scale) * value) + Math.fround(low);
        expect(Math.abs(decoded[i] - near)).toBeLessThanOrEqual(1e-6 * Math.abs(near) + 1e-12);
      });
    });
    fc.assert(property, { numRuns: 20 });
  });

  test("bits are written where they are read", () => {
    const places = layoutOf("Q6K")?.codes[77] ?? [];
    const block = new Uint8Array(210).fill(0xff);
    writeBits(block, places, 21);
    expect(readBits(block, places)).toBe(21);
    writeBits(block, places, 63);
    expect(block.every((byte) => byte === 0xff)).toBe(true);
  });
});

describe("fused multiply-add", () => {
  /** Exact, by integers: a·b + c as a multiple of 2^-300, rounded to binary32 by the two nearest candidates. */
  function exact(a: number, b: number, c: number): number {
    const scaled = (v: number): bigint => {
      let shift = 0;
      let whole = v;
      while (!Number.isInteger(whole)) {
        whole *= 2;
        shift++;
      }
      return BigInt(whole) << BigInt(300 - shift);
    };
    const sum = ((scaled(a) * scaled(b)) >> 300n) + scaled(c);
    const near = Math.fround(Number(sum) / 2 ** 300);
    const step = Math.max(2 ** -149, 2 ** (Math.floor(Math.log2(Math.abs(near) || 1)) - 24));
    const candidates = [near - step, near, near + step, near - 2 * step, near + 2 * step].map(Math.fround);
    const distance = (v: number) => {
      const d = scaled(v) - sum;
      return d < 0n ? -d : d;
    };
    let best = near;
    for (const v of candidates) {
      const even = (new Uint32Array(Float32Array.of(v).buffer)[0] & 1) === 0;
      if (distance(v) < distance(best) || (distance(v) === distance(best) && even)) best = v;
    }
    return best;
  }

  const float = fc
    .tuple(fc.integer({ min: -(2 ** 24), max: 2 ** 24 }), fc.integer({ min: -40, max: 10 }))
    .map(([m, e]) => m * 2 ** e);

  test("is rounded once", () => {
    fc.assert(
      fc.property(float, float, float, (a, b, c) => fusedMultiplyAdd(a, b, c) === exact(a, b, c)),
      { numRuns: 3000 },
    );
  });

  test("is not fooled by a sum that a binary64 rounds to a tie", () => {
    // 1 + 2^-24 is a tie; the product is a little more or less than 2^-24.
    expect(
      fusedMultiplyAdd(Math.fround(2 ** -12 * (1 + 2 ** -23)), Math.fround(2 ** -12 * (1 + 2 ** -23)), 1),
    ).toBe(1 + 2 ** -23);
    const less = Math.fround(2 ** -12 * (1 - 2 ** -24));
    expect(fusedMultiplyAdd(less, 2 ** -12, 1)).toBe(1);
    expect(fusedMultiplyAdd(-less, 2 ** -12, -1)).toBe(-1);
    expect(fusedMultiplyAdd(2 ** -30, 2 ** -60, 1 + 2 ** -23)).toBe(1 + 2 ** -23);
  });

  test("each hypothesis changes some block", () => {
    for (const { cause, detail, arithmetic } of HYPOTHESES) {
      const changes = ["Q4K", "Q6K", "Q8_0"].some((type) => {
        const spec = makeSpec({ type, seed: 3, count: 60 });
        return Array.from({ length: 60 }, (_, i) => makeCase(spec, i).values as Float32Array).some(
          (values) => {
            const row = { type: spec.type, algorithm: "ggml" as const, values };
            return compareBytes(spec.type, encodeRow(row, arithmetic), encodeRow(row, STRICT)) !== undefined;
          },
        );
      });
      expect(changes || detail === "ties to even", `${cause}, ${detail}`).toBe(true);
    }
  });
});
