/**
 * Rows that are hard on quantizers, made from small recipes: exact ties and their neighbours, equal maxima of both signs,
 * scales at the edges of binary16, zeros of both signs. The values depend on the recipe alone: only +, -, ·, / and bit
 * patterns, so they are the same in every runtime.
 */

import { bitsOf, f32, fromBits } from "../numerics.js";
import { type Random, randomFrom } from "./random.js";

export type RowKind = keyof typeof KINDS;

export interface RowRecipe {
  readonly kind: RowKind;
  /** Power of two of the typical magnitude. */
  readonly exponent: number;
  readonly seed: number;
}

const LARGEST = 3.4028234663852886e38;
const saturate = (v: number): number => f32(Math.max(-LARGEST, Math.min(LARGEST, v)));

/** The neighbour `steps` binary32 numbers further from zero (or nearer, if negative). */
export function nudge(v: number, steps: number): number {
  const bits = bitsOf(v);
  const magnitude = Math.max(0, Math.min(0x7f7fffff, (bits & 0x7fffffff) + steps));
  return fromBits(((bits & 0x80000000) | magnitude) >>> 0);
}

/** Values at half steps of a scale whose block maximum is -N steps, so that codes fall on exact ties. */
function ties(random: Random, scale: number, out: Float32Array): void {
  const N = random.pick([3, 4, 7.5, 8, 15, 15.5, 16, 31, 32, 63, 127, 128]);
  for (let i = 0; i < out.length; i++) {
    if (i % 16 === 0) out[i] = saturate(-N * scale);
    else out[i] = saturate((random.integer(Math.ceil(-2 * N), Math.floor(2 * N)) / 2) * scale);
  }
}

/** Magnitudes whose scale is about `target` for some code width. */
function scaleNear(random: Random, target: number, out: Float32Array): void {
  const N = random.pick([4, 7.5, 8, 15, 15.5, 16, 31, 32, 45, 63 * 15, 127, 128 * 32]);
  for (let i = 0; i < out.length; i++) out[i] = f32(random.gauss() * target * N * 0.3);
  const at = random.integer(0, out.length - 1);
  out[at] = nudge(random.pick([1, -1]) * target * N, random.integer(-3, 3));
}

/**
 * Values on an exact grid whose step, divided by some code range, is the midpoint of two binary16 numbers or a neighbour
 * of it: one ulp in the scale decides which way the stored scale is rounded. The first 16 values set the scale, with
 * powers of two that a least-squares fit hardly rounds; the others stay below.
 */
function scaleTies(random: Random, scale: number, out: Float32Array): void {
  const [levels, range] = random.pick(GRIDS);
  const midpoint = (1 + (random.integer(0, 1023) + 0.5) / 1024) * scale;
  const step = nudge(f32(midpoint * range), random.integer(-2, 2));
  const powers = [0, 0, 0, 1, -1, levels / 2, -levels / 2];
  for (let i = 0; i < out.length; i++) {
    const small = random.integer(-levels / 2, levels / 2);
    out[i] = saturate((i < 16 ? random.pick(powers) : small) * step);
  }
  out[random.integer(0, 15)] = saturate(-levels * step);
}

/** Levels on each side of zero, and what the step is divided by on its way to the stored scale. */
const GRIDS = [
  [32, 128],
  [32, 128],
  [4, 32],
  [4, 32],
  [128, 1],
  [2, 15],
  [8, 63],
  [16, 63],
] as const;

const each =
  (value: (random: Random, scale: number, i: number) => number) =>
  (random: Random, scale: number, out: Float32Array): void => {
    for (let i = 0; i < out.length; i++) out[i] = saturate(value(random, scale, i));
  };

/** Each fills `out` at magnitude `scale`. */
const KINDS = {
  gauss: each((random, scale) => random.gauss() * scale),
  uniform: each((random, scale) => (2 * random.unit() - 1) * scale),
  /** Laplace-like: the product of a normal and a positive variable. */
  peaked: each((random, scale) => random.gauss() * random.unit() * random.unit() * 4 * scale),
  heavy: each((random, scale) => (random.gauss() / (random.unit() + 0.001)) * scale),
  positive: each((random, scale) => random.unit() * scale),
  negative: each((random, scale) => -(random.unit() + 0.5) * scale),
  offset: each((random, scale) => (5 + 0.001 * random.gauss()) * scale),
  moderateBits: each((random, scale) => {
    const mantissa = 1 + (random.word() & 0x7fffff) / 0x800000;
    return random.pick([1, -1]) * mantissa * 2 ** random.integer(-8, 8) * scale;
  }),
  finiteBits: each((random) => {
    const bits = random.word();
    return fromBits((bits & 0x7f800000) === 0x7f800000 ? bits & 0xbfffffff : bits);
  }),
  ties,
  nearTies(random: Random, scale: number, out: Float32Array): void {
    ties(random, scale, out);
    for (let i = 0; i < out.length; i++) out[i] = nudge(out[i], random.integer(-1, 1));
  },
  scaleTies,
  equalMaxima(random: Random, scale: number, out: Float32Array): void {
    KINDS.gauss(random, scale, out);
    for (let i = 0; i < out.length; i += random.integer(1, 9)) {
      out[i] = saturate(random.pick([8, -8]) * scale);
    }
  },
  constant(random: Random, scale: number, out: Float32Array): void {
    out.fill(f32(random.pick([1, -1, 0.7, -0.3]) * scale));
  },
  constantRuns: each((random, scale, i) =>
    (i >> 4) % 3 === 0 ? -scale : random.pick([scale, scale, -scale]),
  ),
  zeros: each((random) => random.pick([0, -0])),
  sparse: each((random, scale) => (random.unit() < 0.93 ? random.pick([0, -0]) : random.gauss() * scale)),
  outlier(random: Random, scale: number, out: Float32Array): void {
    KINDS.gauss(random, scale, out);
    out[random.integer(0, out.length - 1)] *= 500;
    for (let i = 0; i < out.length; i++) out[i] = saturate(out[i]);
  },
  alternating: each((random, scale, i) => (i % 2 ? -1 : 1) * (1 + random.unit() / 64) * scale),
  ramp: each((_random, scale, i) => (i - 100) * scale),
  /** Already on a grid of few levels. */
  grid: each((random, scale) => random.integer(-8, 7) * scale),
  subnormalHalf(random: Random, _scale: number, out: Float32Array): void {
    scaleNear(random, 2 ** random.integer(-26, -13) * (1 + random.integer(0, 4) / 4), out);
  },
  halfOverflow(random: Random, _scale: number, out: Float32Array): void {
    scaleNear(random, random.pick([65504, 65519, 65520, 65536, 60000]), out);
  },
  /** Around the magnitude below which ggml stores zero. */
  nearEpsilon: each((random) => random.pick([1, -1]) * nudge(f32(1e-15), random.integer(-4, 1))),
  mixedExponents: each((random, scale) => random.gauss() * scale * 2 ** random.integer(-20, 10)),
};

/** Fills `out`, a whole number of blocks, with one recipe per block. */
export function fillRow(recipes: readonly RowRecipe[], out: Float32Array): void {
  const width = out.length / recipes.length;
  recipes.forEach(({ kind, exponent, seed }, i) => {
    KINDS[kind](randomFrom(seed), 2 ** exponent, out.subarray(i * width, (i + 1) * width));
  });
}

export type ImportanceKind = keyof typeof IMPORTANCE_KINDS;

export interface ImportanceRecipe {
  readonly kind: ImportanceKind;
  readonly seed: number;
}

const IMPORTANCE_KINDS = {
  ones: () => 1,
  squares: (random: Random) => random.gauss() ** 2 + 1e-3,
  wide: (random: Random) => (1 + random.unit()) * 2 ** random.integer(-12, 12),
  halfZero: (random: Random) => (random.unit() < 0.5 ? 0 : random.unit()),
  zeroRuns: (random: Random, i: number) => ((i >> 5) % 3 === 1 ? 0 : random.unit()),
  zeros: () => 0,
  heavy: (random: Random) => 1 / (random.unit() + 1e-4) ** 2,
  oneOutlier: (random: Random, i: number) => (i === 17 ? 1e6 : random.unit()),
  equalSteps: (random: Random) => random.integer(0, 3),
  tiny: (random: Random) => random.unit() * 1e-30,
  anyExponent: (random: Random) => 2 ** random.integer(-100, 100),
};

export function makeImportance({ kind, seed }: ImportanceRecipe, columns: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: columns }, (_, i) => IMPORTANCE_KINDS[kind](random, i));
}

/** The names of the recipes. */
export const ROW_KINDS = Object.keys(KINDS) as readonly RowKind[];
export const IMPORTANCE_KIND_NAMES = Object.keys(IMPORTANCE_KINDS) as readonly ImportanceKind[];
