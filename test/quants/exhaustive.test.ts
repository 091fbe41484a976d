/** Small domains, whole: number formats and packings. */

import { describe, expect, it } from "vitest";
import {
  bfloatFromFloat,
  bitsOf,
  e4m3FromFloat,
  floatFromBfloat,
  floatFromE4m3,
  floatFromHalf,
  fromBits,
  halfFromFloat,
} from "../../src/numerics.js";
import * as pack from "../../src/quants/scales.js";

/** The binary32 numbers just below and above. */
const neighbours = (v: number): [number, number] => [fromBits(bitsOf(v) - 1), fromBits(bitsOf(v) + 1)];

/** Collects at most a few failures, so that a broken table does not print 65,536 lines. */
function failures(count: number, check: (i: number) => boolean): string[] {
  const list: string[] = [];
  for (let i = 0; i < count && list.length < 8; i++) if (!check(i)) list.push(`0x${i.toString(16)}`);
  return list;
}

describe("binary16", () => {
  const value = (half: number): number => {
    const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
    const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return half & 0x8000 ? -magnitude : magnitude;
  };

  it("all 65,536 patterns decode to their value and encode back", () => {
    const wrong = failures(65536, (half) => {
      const v = floatFromHalf(half);
      if ((half & 0x7fff) > 0x7c00) return Number.isNaN(v);
      if ((half & 0x7fff) === 0x7c00) return v === (half & 0x8000 ? -1 : 1) * Number.POSITIVE_INFINITY;
      return Object.is(v, value(half)) && halfFromFloat(v) === half;
    });
    expect(wrong).toEqual([]);
    expect([halfFromFloat(Number.POSITIVE_INFINITY), halfFromFloat(Number.NEGATIVE_INFINITY)]).toEqual([
      0x7c00, 0xfc00,
    ]);
    expect([halfFromFloat(Number.NaN), halfFromFloat(fromBits(0xffc00001))].map((h) => h & 0x7fff)).toEqual([
      0x7e00, 0x7e00,
    ]);
  });

  it("between neighbours the nearest wins, and ties go to the even one, up to infinity", () => {
    const wrong = failures(0x7c00, (half) => {
      const midpoint = (value(half) + (half === 0x7bff ? 65536 : value(half + 1))) / 2;
      const [below, above] = neighbours(midpoint);
      return [0, 0x8000].every((sign) => {
        const s = sign ? -1 : 1;
        return (
          halfFromFloat(s * below) === (sign | half) &&
          halfFromFloat(s * above) === (sign | (half + 1)) &&
          halfFromFloat(s * midpoint) === (sign | (half + (half & 1)))
        );
      });
    });
    expect(wrong).toEqual([]);
  });
});

describe("bfloat16", () => {
  it("all 65,536 patterns decode to their value and encode back", () => {
    const wrong = failures(65536, (bfloat) => {
      const v = floatFromBfloat(bfloat);
      if ((bfloat & 0x7fff) > 0x7f80) return Number.isNaN(v);
      return bitsOf(v) === (bfloat << 16) >>> 0 && bfloatFromFloat(v) === bfloat;
    });
    expect(wrong).toEqual([]);
    expect(bfloatFromFloat(Number.NaN) & 0x7fff).toBe(0x7fc0);
  });

  it("between neighbours the nearest wins, and ties go to the even one, up to infinity", () => {
    const wrong = failures(65536, (bfloat) => {
      if ((bfloat & 0x7fff) >= 0x7f80) return true;
      const midpoint = ((bfloat << 16) | 0x8000) >>> 0;
      return (
        bfloatFromFloat(fromBits(midpoint - 1)) === bfloat &&
        bfloatFromFloat(fromBits(midpoint + 1)) === bfloat + 1 &&
        bfloatFromFloat(fromBits(midpoint)) === bfloat + (bfloat & 1)
      );
    });
    expect(wrong).toEqual([]);
  });
});

describe("E4M3", () => {
  it("all 256 codes decode to their value and encode back", () => {
    const wrong = failures(256, (code) => {
      const v = floatFromE4m3(code);
      const [exponent, fraction] = [(code >> 3) & 15, code & 7];
      if (exponent === 15 && fraction === 7) return Number.isNaN(v) && e4m3FromFloat(v) === 0x7f;
      const magnitude = exponent === 0 ? fraction * 2 ** -9 : (1 + fraction / 8) * 2 ** (exponent - 7);
      return Object.is(v, code & 0x80 ? -magnitude : magnitude) && e4m3FromFloat(v) === code;
    });
    expect(wrong).toEqual([]);
  });

  it("between neighbours the nearest wins, and ties go to the even one", () => {
    const wrong = failures(0x7e, (code) => {
      const midpoint = (floatFromE4m3(code) + floatFromE4m3(code + 1)) / 2;
      const [below, above] = neighbours(midpoint);
      return [0, 0x80].every((sign) => {
        const s = sign ? -1 : 1;
        return (
          e4m3FromFloat(s * below) === (sign | code) &&
          e4m3FromFloat(s * above) === (sign | (code + 1)) &&
          e4m3FromFloat(s * midpoint) === (sign | (code + (code & 1)))
        );
      });
    });
    expect(wrong).toEqual([]);
  });

  it("448 and above stay at the largest finite value", () => {
    for (const v of [448, 449, 463.9, 464, 480, 1e30, Number.POSITIVE_INFINITY]) {
      expect([e4m3FromFloat(v), e4m3FromFloat(-v)]).toEqual([0x7e, 0xfe]);
    }
  });
});

describe("packings of scales", () => {
  /** Calls `check` for all 2^24 values of three bytes; returns the first for which it fails. */
  function allTriples(check: (a: number, b: number, c: number) => boolean): string | undefined {
    for (let n = 0; n < 2 ** 24; n++) {
      if (!check(n & 255, (n >> 8) & 255, n >> 16)) return `bytes 0x${n.toString(16)}`;
    }
    return undefined;
  }

  /** Byte triple (j, j + 4, j + 8) is its own unit in both 6-bit packings; the four units get the triple rotated. */
  function setTriples(bytes: Uint8Array, triple: readonly number[]): void {
    for (let i = 0; i < 12; i++) bytes[i] = triple[((i >> 2) + i) % 3];
  }

  const same = (a: Uint8Array, b: Uint8Array): boolean => {
    for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
    return true;
  };

  it("six-bit pairs of Q4K and Q5K: all bytes round trip", () => {
    const [bytes, back, scales, mins] = [
      new Uint8Array(12),
      new Uint8Array(12),
      new Uint8Array(8),
      new Uint8Array(8),
    ];
    const wrong = allTriples((a, b, c) => {
      setTriples(bytes, [a, b, c]);
      pack.unpackSixBitPairs(bytes, 0, scales, mins);
      pack.packSixBitPairs(scales, mins, back, 0);
      return same(bytes, back);
    });
    expect(wrong).toBeUndefined();
  });

  it("six-bit scales of Q3K: all bytes round trip", () => {
    const [bytes, back, codes] = [new Uint8Array(12), new Uint8Array(12), new Uint8Array(16)];
    const wrong = allTriples((a, b, c) => {
      setTriples(bytes, [a, b, c]);
      pack.unpackSixBitScales(bytes, 0, codes);
      back.fill(0);
      pack.packSixBitScales(codes, back, 0);
      return same(bytes, back);
    });
    expect(wrong).toBeUndefined();
  });

  it("six-bit pairs: every scale and minimum lies where the layout says", () => {
    for (let j = 0; j < 8; j++) {
      for (let v = 0; v < 64; v++) {
        const [scales, mins] = [new Uint8Array(8), new Uint8Array(8)];
        scales[j] = v;
        const expected = new Uint8Array(12);
        expected[j < 4 ? j : j + 4] = j < 4 ? v : v & 15;
        if (j >= 4) expected[j - 4] = (v >> 4) << 6;
        const out = new Uint8Array(12);
        pack.packSixBitPairs(scales, mins, out, 0);
        expect(out).toEqual(expected);

        expected.fill(0);
        expected[j + 4] = j < 4 ? v : (v & 15) << 4;
        if (j >= 4) expected[j] = (v >> 4) << 6;
        pack.packSixBitPairs(mins, scales, out, 0);
        expect(out).toEqual(expected);
      }
    }
  });

  it("six-bit scales: every scale lies where the layout says", () => {
    for (let j = 0; j < 16; j++) {
      for (let v = 0; v < 64; v++) {
        const codes = new Uint8Array(16);
        codes[j] = v;
        const expected = new Uint8Array(12);
        expected[j % 8] = j < 8 ? v & 15 : (v & 15) << 4;
        expected[8 + (j % 4)] = (v >> 4) << (2 * Math.floor(j / 4));
        const out = new Uint8Array(12);
        pack.packSixBitScales(codes, out, 0);
        expect(out).toEqual(expected);
      }
    }
  });

  const packings = [
    { name: "nibbles", codes: 32, bits: 4, bytes: 16, into: pack.packNibbles, from: pack.unpackNibbles },
    { name: "pairs", codes: 256, bits: 2, bytes: 64, into: pack.packPairs, from: pack.unpackPairs },
    {
      name: "planes",
      codes: 256,
      bits: 4,
      bytes: 128,
      into: pack.packNibblePlanes,
      from: pack.unpackNibblePlanes,
    },
    {
      name: "fifth bits",
      codes: 32,
      bits: 5,
      bytes: 4,
      into: pack.packFifthBits,
      from: pack.unpackFifthBits,
    },
  ];
  it.each(packings)(
    "$name: every byte value at every place round trips",
    ({ codes, bytes, bits, into, from }) => {
      const [packed, back] = [new Uint8Array(bytes + 3), new Uint8Array(bytes + 3)];
      const wrong: string[] = [];
      for (let at = 0; at < bytes; at++) {
        for (let v = 0; v < 256; v++) {
          for (const array of [packed, back]) array.fill(0xa5, 0, 3).fill(0, 3);
          packed[3 + at] = v;
          const unpacked = new Uint8Array(codes);
          from(packed, 3, unpacked);
          into(unpacked, back, 3);
          if (!same(back, packed) || unpacked.some((code) => code >= 2 ** bits)) wrong.push(`${v} at ${at}`);
        }
      }
      expect(wrong).toEqual([]);
    },
  );
});
