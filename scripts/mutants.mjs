// Breaks the quantizers on purpose, one seeded mutant at a time, and runs the golden set on each: every mutant must be
// caught. `node scripts/mutants.mjs [NAME…]` prints a table and exits 1 if any survives.
//
// Works on a compiled copy in a temporary folder; the sources stay as they are. A mutant is a text that occurs exactly
// once in its file, and what replaces it.
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));

/** [name, file in src/quants, text, replacement] */
const MUTANTS = [
  [
    "nibbles swapped",
    "scales.ts",
    "(codes[j] & 15) | ((codes[j + 16] & 15) << 4)",
    "(codes[j + 16] & 15) | ((codes[j] & 15) << 4)",
  ],
  [
    "nibbles swapped, K types",
    "scales.ts",
    "codes[i] = i & 32 ? byte >> 4 : byte & 15;",
    "codes[i] = i & 32 ? byte & 15 : byte >> 4;",
  ],
  ["high bit dropped, Q5", "scales.ts", "|= ((codes[j] >> 4) & 1) << (j & 7);", "|= 0;"],
  ["high bit dropped, Q3K", "q3_k.ts", "if (codes[i] > 3)", "if (codes[i] > 4)"],
  ["high bits dropped, Q6K", "q6_k.ts", "(a >> 4) | ((b >> 4) << 2)", "(a >> 4)"],
  [
    "high bit order, Q5",
    "scales.ts",
    "(codes[j] >> 4) & 1) << (j & 7)",
    "(codes[j] >> 4) & 1) << (7 - (j & 7))",
  ],
  ["high bit order, Q5K", "q5_k.ts", "(codes[i] >> 4) << (i >> 5)", "(codes[i] >> 4) << (7 - (i >> 5))"],
  ["high bit order, Q6K", "q6_k.ts", "((high >> 2) & 3) << 4", "((high >> 4) & 3) << 4"],
  ["stride off by one, pairs", "scales.ts", "(codes[first + 64] & 3) << 4", "(codes[first + 65] & 3) << 4"],
  [
    "stride off by one, planes",
    "scales.ts",
    "((codes[64 * g + 32 + l] & 15) << 4)",
    "((codes[64 * g + 31 + l] & 15) << 4)",
  ],
  ["stride off by one, HQQ groups", "hqq.ts", "(j, r) => j + r * groups", "(j, r) => j + (r + 1) * groups"],
  [
    "first row's scale for all blocks",
    "q8_0.ts",
    "readHalf(bytes, b * blockBytes + D)",
    "readHalf(bytes, D)",
  ],
  ["wrong block bytes, Q8_1 as Q8_0", "q8_1.ts", "} = TYPES.Q8_1;", "} = TYPES.Q8_0;"],
  ["wrong block bytes, Q4K as Q5K", "q4_k.ts", "} = TYPES.Q4K;", "} = TYPES.Q5K;"],
  ["upper scale bits lost", "scales.ts", "scales[j] | ((scales[j + 4] >> 4) << 6)", "scales[j]"],
  [
    "upper scale bits shifted, Q3K",
    "scales.ts",
    "(codes[j] >> 4) << (2 * (j >> 2))",
    "(codes[j] >> 4) << (j >> 2)",
  ],
  ["last of equal maxima wins", "search.ts", "if (a > magnitude)", "if (a >= magnitude)"],
  [
    "last of equal candidates wins, affine",
    "search-affine.ts",
    "if (error < best) {\n      codes.set(trial);",
    "if (error <= best) {\n      codes.set(trial);",
  ],
  [
    "last of equal candidates wins, symmetric",
    "search-symmetric.ts",
    "f32(sumlx * sumlx) > f32(best * suml2)",
    "f32(sumlx * sumlx) >= f32(best * suml2)",
  ],
  [
    "last of equal scales wins",
    "superblock.ts",
    "if (Math.abs(scale) > Math.abs(peak))",
    "if (Math.abs(scale) >= Math.abs(peak))",
  ],
  ["last candidate left out", "search-affine.ts", "step <= nstep", "step < nstep"],
  ["old minimum kept in the search", "search-affine.ts", "      low = trialLow;\n", ""],
  ["minimum not capped at zero", "search-affine.ts", "if (trialLow > 0) {", "if (trialLow > 1e30) {"],
  [
    "first minimum not capped at zero",
    "search-affine.ts",
    "  if (low > 0) low = 0;\n  codes.fill(0);",
    "  codes.fill(0);",
  ],
  ["ties away from zero, ggml", "search.ts", "round: nearestInt,", "round: roundHalfAway,"],
  ["ties to even, mistralrs", "search.ts", "round: roundHalfAway,", "round: nearestInt,"],
  ["Math.round", "q8_0.ts", "? roundHalfAway(v) : v;", "? Math.round(v) : v;"],
  [
    "truncation instead of rounding, Q4 and Q5",
    "block32.ts",
    "f32(f32(x[i] * id) + (N + 0.5))",
    "f32(f32(x[i] * id) + N)",
  ],
  [
    "reciprocal instead of division, recode",
    "superblock.ts",
    "f32(f32(x[i] + min) / scale)",
    "f32(f32(x[i] + min) * f32(1 / scale))",
  ],
  [
    "reciprocal instead of division, Q6K and Q3K",
    "superblock.ts",
    "f32(x[i] / scale)",
    "f32(x[i] * f32(1 / scale))",
  ],
  [
    "division instead of reciprocal, Q8_0",
    "q8_0.ts",
    "const v = f32(x[i] * id);",
    "const v = d !== 0 ? f32(x[i] / d) : 0;",
  ],
  ["max / 128 instead of 1 / iscale, Q6K", "q6_k.ts", "f32(1 / iscale)", "f32(peak / -128)"],
  ["max / 32 instead of 1 / iscale, Q3K", "q3_k.ts", "f32(1 / iscale)", "f32(peak / -32)"],
  [
    "clamp missing, Q4_0",
    "block32.ts",
    "codes[i] = Math.min(2 * N - 1, toCode(",
    "codes[i] = Math.max(0, toCode(",
  ],
  [
    "clamp missing, Q6K scales",
    "q6_k.ts",
    "Math.min(127, lineage.round(f32(iscale * scales[j])))",
    "lineage.round(f32(iscale * scales[j]))",
  ],
  [
    "lower clamp missing, recode",
    "superblock.ts",
    "clampInt(lineage.round(f32(f32(x[i] + min) / scale)), 0, N)",
    "Math.min(N, lineage.round(f32(f32(x[i] + min) / scale)))",
  ],
  [
    "(w·x)·l grouped as w·(x·l)",
    "search-symmetric.ts",
    "sumlx = f32(sumlx + f32(f32(w[i] * x[i]) * l));\n    suml2 = f32(suml2 + f32(f32(w[i] * l) * l));",
    "sumlx = f32(sumlx + f32(w[i] * f32(x[i] * l)));\n    suml2 = f32(suml2 + f32(f32(w[i] * l) * l));",
  ],
  [
    "(w·l)·l grouped as w·(l·l)",
    "search.ts",
    "square: (w, l) => f32(f32(w * l) * l)",
    "square: (w, l) => f32(w * (l * l))",
  ],
  [
    "fused multiply-add in the error",
    "search-affine.ts",
    "f32(f32(f32(scale * codes[i]) + low) - x[i])",
    "f32(f32(scale * codes[i] + low) - x[i])",
  ],
  [
    "minimum off by one, decoder",
    "k4.ts",
    "f32(d * scales[j]) * codes[i]) - f32(dmin * mins[j])",
    "f32(d * scales[j]) * codes[i]) - dmin * (mins[j] - 1)",
  ],
  [
    "scale not rounded to f16 before the recode",
    "q6_k.ts",
    "const d = writeHalf(block, D, f32(1 / iscale));",
    "const d = f32(1 / iscale);\n  writeHalf(block, D, d);",
  ],
  ["sum from the rounded scale, Q8_1", "q8_1.ts", "f32(sum * d)", "f32(sum * throughHalf(d))"],
  ["-128 instead of -127, Q8K", "q8_k.ts", "f32(-127 / peak)", "f32(-128 / peak)"],
  [
    "codes of the search forgotten, ggml",
    "q2_k.ts",
    "if (lineage !== GGML) codes.fill(0);",
    "codes.fill(0);",
  ],
  [
    "row weight without the factor 2",
    "q3_k.ts",
    "superBlockWeights(x, importance, 2, SUB)",
    "superBlockWeights(x, importance, 1, SUB)",
  ],
  ["dot: lanes added before the minima", "superblock.ts", 'order === "ggml" ? start : 0', "0"],
  ["dot: sums of sub-blocks shifted", "k4.ts", "mins[b * SUBS + (j >> 1)]", "mins[b * SUBS + (j & 7)]"],
  [
    "HQQ: product before reciprocal",
    "hqq.ts",
    "f32(f32(1 / f32(max - min)) * largest)",
    "f32(largest / f32(max - min))",
  ],
  [
    "HQQ: zeros of the stopping round dropped",
    "hqq.ts",
    "const error = moveZeros(values, fitted, largest, f32(1 / beta), at);\n        if (!(error < best)) break;",
    "const before = fitted.z.slice();\n        const error = moveZeros(values, fitted, largest, f32(1 / beta), at);\n        if (!(error < best)) {\n          fitted.z.set(before);\n          break;\n        }",
  ],
  [
    "FP8: not rounded through bfloat16",
    "fp8.ts",
    "const factor = throughBfloat(scale);",
    "const factor = scale;",
  ],
  ["FP8: largest value 416", "fp8.ts", "const LARGEST = 448;", "const LARGEST = 416;"],
];

/** Stops at the first golden check that fails and prints it: exit code 1. Passing all: exit code 0. */
const RUNNER = `
import { dequantize, dot, quantize } from "./src/quants/index.js";
import { goldenChecks } from "./test/suites/codec-checks.js";
import { loadVectors } from "./test/vectors/load.js";

const codec = { quantize, dequantize, dot };
const checks = goldenChecks(loadVectors(), codec);
for (const [done, check] of checks.entries()) {
  const wrong = await check.run(codec).catch((error) => "throws " + error);
  if (!wrong) continue;
  console.log(check.id + ": " + wrong + " (check " + (done + 1) + " of " + checks.length + ")");
  process.exit(1);
}
console.log("all " + checks.length + " checks pass");
`;

/** Compiles the TypeScript files of a folder of the project into the copy, and copies the packed vectors. */
function compileFolder(copy, folder, recursive) {
  mkdirSync(join(copy, folder), { recursive: true });
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && recursive) compileFolder(copy, path, true);
    else if (entry.name.endsWith(".ts")) compile(copy, path, readFileSync(join(root, path), "utf8"));
    else if (entry.name.endsWith(".br")) cpSync(join(root, path), join(copy, path));
  }
}

function compile(copy, path, source) {
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  const target = join(copy, path.replace(/\.ts$/, ".js"));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, outputText);
}

function makeCopy() {
  const copy = mkdtempSync(join(tmpdir(), "isq-mutants-"));
  compileFolder(copy, "src", false);
  for (const folder of ["src/quants", "test/suites", "test/vectors"]) compileFolder(copy, folder, true);
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "package.json"), '{ "type": "module" }');
  writeFileSync(join(copy, "run.mjs"), RUNNER);
  return copy;
}

/** The source of a mutant's file, changed. */
function mutate([name, file, text, replacement]) {
  const parts = readFileSync(join(root, "src/quants", file), "utf8").split(text);
  if (parts.length !== 2) {
    throw new Error(`${name}: its text occurs ${parts.length - 1} times in ${file}, not once`);
  }
  return parts.join(replacement);
}

/** Whether the golden set passes on the copy as it is, and the last line it printed. An endless loop is a failure. */
function runGolden(copy) {
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, ["run.mjs"], {
    cwd: copy,
    encoding: "utf8",
    timeout: 120_000,
  });
  const said =
    stdout.trim() ||
    stderr
      .trim()
      .split("\n")
      .find((line) => line.includes("Error")) ||
    "";
  return { passes: status === 0, said: signal ? `stopped after two minutes` : said };
}

function runMutants(copy, mutants) {
  const survivors = [];
  for (const mutant of mutants) {
    const [name, file] = mutant;
    const path = join("src/quants", file);
    compile(copy, path, mutate(mutant));
    const { passes, said } = runGolden(copy);
    compile(copy, path, readFileSync(join(root, path), "utf8"));
    if (passes) survivors.push(name);
    console.log(`| ${name} | ${file} | ${passes ? "SURVIVED" : "caught"} | ${said} |`);
  }
  return survivors;
}

const wanted = process.argv.slice(2);
const mutants = MUTANTS.filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
for (const mutant of MUTANTS) mutate(mutant); // all of them apply, before any is run
const copy = makeCopy();
try {
  const { passes, said } = runGolden(copy);
  if (!passes) throw new Error(`the golden set fails without any mutant: ${said}`);
  console.log(`unchanged: ${said}\n\n| mutant | file | result | by |\n|---|---|---|---|`);
  const survivors = runMutants(copy, mutants);
  console.log(`\n${mutants.length - survivors.length} of ${mutants.length} mutants caught`);
  for (const name of survivors) console.log(`survived: ${name}`);
  process.exitCode = survivors.length > 0 ? 1 : 0;
} finally {
  rmSync(copy, { recursive: true, force: true });
}
