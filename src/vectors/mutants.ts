/**
 * Mistakes that a test of a quantizer must catch, each as a change of one place in this project's own sources. Whoever
 * tests another implementation can plant the same mistakes there; the golden set catches all of them here
 * (`scripts/mutants.mjs`).
 */

export interface Mutant {
  /** The mistake in words. */
  readonly name: string;
  /** File in src/quants. */
  readonly file: string;
  /** A text that occurs once in that file. */
  readonly text: string;
  readonly replacement: string;
}

const mutant = (name: string, file: string, text: string, replacement: string): Mutant => ({
  name,
  file,
  text,
  replacement,
});

/** Every planted mistake. */
export const MUTANTS: readonly Mutant[] = [
  mutant(
    "nibbles swapped",
    "scales.ts",
    "(codes[j] & 15) | ((codes[j + 16] & 15) << 4)",
    "(codes[j + 16] & 15) | ((codes[j] & 15) << 4)",
  ),
  mutant(
    "nibbles swapped, K types",
    "scales.ts",
    "codes[i] = i & 32 ? byte >> 4 : byte & 15;",
    "codes[i] = i & 32 ? byte & 15 : byte >> 4;",
  ),
  mutant("high bit dropped, Q5", "scales.ts", "|= ((codes[j] >> 4) & 1) << (j & 7);", "|= 0;"),
  mutant("high bit dropped, Q3K", "q3_k.ts", "if (codes[i] > 3)", "if (codes[i] > 4)"),
  mutant("high bits dropped, Q6K", "q6_k.ts", "(a >> 4) | ((b >> 4) << 2)", "(a >> 4)"),
  mutant(
    "high bit order, Q5",
    "scales.ts",
    "(codes[j] >> 4) & 1) << (j & 7)",
    "(codes[j] >> 4) & 1) << (7 - (j & 7))",
  ),
  mutant(
    "high bit order, Q5K",
    "q5_k.ts",
    "(codes[i] >> 4) << (i >> 5)",
    "(codes[i] >> 4) << (7 - (i >> 5))",
  ),
  mutant("high bit order, Q6K", "q6_k.ts", "((high >> 2) & 3) << 4", "((high >> 4) & 3) << 4"),
  mutant(
    "stride off by one, pairs",
    "scales.ts",
    "(codes[first + 64] & 3) << 4",
    "(codes[first + 65] & 3) << 4",
  ),
  mutant(
    "stride off by one, planes",
    "scales.ts",
    "((codes[64 * g + 32 + l] & 15) << 4)",
    "((codes[64 * g + 31 + l] & 15) << 4)",
  ),
  mutant(
    "stride off by one, HQQ groups",
    "hqq.ts",
    "(j, r) => j + r * groups",
    "(j, r) => j + (r + 1) * groups",
  ),
  mutant(
    "first row's scale for all blocks",
    "q8_0.ts",
    "readHalf(bytes, b * blockBytes + D)",
    "readHalf(bytes, D)",
  ),
  mutant("wrong block bytes, Q8_1 as Q8_0", "q8_1.ts", "} = TYPES.Q8_1;", "} = TYPES.Q8_0;"),
  mutant("wrong block bytes, Q4K as Q5K", "q4_k.ts", "} = TYPES.Q4K;", "} = TYPES.Q5K;"),
  mutant("upper scale bits lost", "scales.ts", "scales[j] | ((scales[j + 4] >> 4) << 6)", "scales[j]"),
  mutant(
    "upper scale bits shifted, Q3K",
    "scales.ts",
    "(codes[j] >> 4) << (2 * (j >> 2))",
    "(codes[j] >> 4) << (j >> 2)",
  ),
  mutant("last of equal maxima wins", "search.ts", "if (a > magnitude)", "if (a >= magnitude)"),
  mutant(
    "last of equal candidates wins, affine",
    "search-affine.ts",
    "if (error < best) {\n      codes.set(trial);",
    "if (error <= best) {\n      codes.set(trial);",
  ),
  mutant(
    "last of equal candidates wins, symmetric",
    "search-symmetric.ts",
    "f32(sumlx * sumlx) > f32(best * suml2)",
    "f32(sumlx * sumlx) >= f32(best * suml2)",
  ),
  mutant(
    "last of equal scales wins",
    "superblock.ts",
    "if (Math.abs(scale) > Math.abs(peak))",
    "if (Math.abs(scale) >= Math.abs(peak))",
  ),
  mutant("last candidate left out", "search-affine.ts", "step <= nstep", "step < nstep"),
  mutant("old minimum kept in the search", "search-affine.ts", "      low = trialLow;\n", ""),
  mutant("minimum not capped at zero", "search-affine.ts", "if (trialLow > 0) {", "if (trialLow > 1e30) {"),
  mutant(
    "first minimum not capped at zero",
    "search-affine.ts",
    "  if (low > 0) low = 0;\n  codes.fill(0);",
    "  codes.fill(0);",
  ),
  mutant("ties away from zero, ggml", "search.ts", "round: nearestInt,", "round: roundHalfAway,"),
  mutant("ties to even, mistralrs", "search.ts", "round: roundHalfAway,", "round: nearestInt,"),
  mutant("Math.round", "q8_0.ts", "? roundHalfAway(v) : v;", "? Math.round(v) : v;"),
  mutant(
    "truncation instead of rounding, Q4 and Q5",
    "block32.ts",
    "f32(f32(x[i] * id) + (N + 0.5))",
    "f32(f32(x[i] * id) + N)",
  ),
  mutant(
    "reciprocal instead of division, recode",
    "superblock.ts",
    "f32(f32(x[i] + min) / scale)",
    "f32(f32(x[i] + min) * f32(1 / scale))",
  ),
  mutant(
    "reciprocal instead of division, Q6K and Q3K",
    "superblock.ts",
    "f32(x[i] / scale)",
    "f32(x[i] * f32(1 / scale))",
  ),
  mutant(
    "division instead of reciprocal, Q8_0",
    "q8_0.ts",
    "const v = f32(x[i] * id);",
    "const v = d !== 0 ? f32(x[i] / d) : 0;",
  ),
  mutant("max / 128 instead of 1 / iscale, Q6K", "q6_k.ts", "f32(1 / iscale)", "f32(peak / -128)"),
  mutant("max / 32 instead of 1 / iscale, Q3K", "q3_k.ts", "f32(1 / iscale)", "f32(peak / -32)"),
  mutant(
    "clamp missing, Q4_0",
    "block32.ts",
    "codes[i] = Math.min(2 * N - 1, toCode(",
    "codes[i] = Math.max(0, toCode(",
  ),
  mutant(
    "clamp missing, Q6K scales",
    "q6_k.ts",
    "Math.min(127, lineage.round(f32(iscale * scales[j])))",
    "lineage.round(f32(iscale * scales[j]))",
  ),
  mutant(
    "lower clamp missing, recode",
    "superblock.ts",
    "clampInt(lineage.round(f32(f32(x[i] + min) / scale)), 0, N)",
    "Math.min(N, lineage.round(f32(f32(x[i] + min) / scale)))",
  ),
  mutant(
    "(w·x)·l grouped as w·(x·l)",
    "search-symmetric.ts",
    "sumlx = f32(sumlx + f32(f32(w[i] * x[i]) * l));\n    suml2 = f32(suml2 + f32(f32(w[i] * l) * l));",
    "sumlx = f32(sumlx + f32(w[i] * f32(x[i] * l)));\n    suml2 = f32(suml2 + f32(f32(w[i] * l) * l));",
  ),
  mutant(
    "(w·l)·l grouped as w·(l·l)",
    "search.ts",
    "square: (w, l) => f32(f32(w * l) * l)",
    "square: (w, l) => f32(w * (l * l))",
  ),
  mutant(
    "fused multiply-add in the error",
    "search-affine.ts",
    "f32(f32(f32(scale * codes[i]) + low) - x[i])",
    "f32(f32(scale * codes[i] + low) - x[i])",
  ),
  mutant(
    "minimum off by one, decoder",
    "k4.ts",
    "f32(d * scales[j]) * codes[i]) - f32(dmin * mins[j])",
    "f32(d * scales[j]) * codes[i]) - dmin * (mins[j] - 1)",
  ),
  mutant(
    "scale not rounded to f16 before the recode",
    "q6_k.ts",
    "const d = writeHalf(block, D, f32(1 / iscale));",
    "const d = f32(1 / iscale);\n  writeHalf(block, D, d);",
  ),
  mutant("sum from the rounded scale, Q8_1", "q8_1.ts", "f32(sum * d)", "f32(sum * throughHalf(d))"),
  mutant("-128 instead of -127, Q8K", "q8_k.ts", "f32(-127 / peak)", "f32(-128 / peak)"),
  mutant(
    "codes of the search forgotten, ggml",
    "q2_k.ts",
    "if (lineage !== GGML) codes.fill(0);",
    "codes.fill(0);",
  ),
  mutant(
    "row weight without the factor 2",
    "q3_k.ts",
    "superBlockWeights(x, importance, 2, SUB)",
    "superBlockWeights(x, importance, 1, SUB)",
  ),
  mutant("dot: lanes added before the minima", "superblock.ts", 'order === "ggml" ? start : 0', "0"),
  mutant("dot: sums of sub-blocks shifted", "k4.ts", "mins[b * SUBS + (j >> 1)]", "mins[b * SUBS + (j & 7)]"),
  mutant(
    "HQQ: product before reciprocal",
    "hqq.ts",
    "f32(f32(1 / f32(max - min)) * largest)",
    "f32(largest / f32(max - min))",
  ),
  mutant(
    "HQQ: zeros of the stopping round dropped",
    "hqq.ts",
    "const error = moveZeros(values, fitted, largest, f32(1 / beta), at);\n        if (!(error < best)) break;",
    "const before = fitted.z.slice();\n        const error = moveZeros(values, fitted, largest, f32(1 / beta), at);\n        if (!(error < best)) {\n          fitted.z.set(before);\n          break;\n        }",
  ),
  mutant(
    "FP8: not rounded through bfloat16",
    "fp8.ts",
    "const factor = throughBfloat(scale);",
    "const factor = scale;",
  ),
  mutant("FP8: largest value 416", "fp8.ts", "const LARGEST = 448;", "const LARGEST = 416;"),
];
