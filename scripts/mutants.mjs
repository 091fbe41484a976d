// Breaks the quantizers on purpose, one seeded mutant at a time, and runs the golden set on each: every mutant must be
// caught. `node scripts/mutants.mjs [NAME…]` prints a table and exits 1 if any survives.
//
// Works on a compiled copy in a temporary folder; the sources stay as they are. The mutants are src/vectors/mutants.ts.
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
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The list of src/vectors/mutants.ts, from the compiled copy. */
const readMutants = async (copy) =>
  (await import(pathToFileURL(join(copy, "src/vectors/mutants.js")).href)).MUTANTS;

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
  for (const folder of ["src/quants", "src/oracle", "src/vectors", "test/suites", "test/vectors"])
    compileFolder(copy, folder, true);
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "package.json"), '{ "type": "module" }');
  writeFileSync(join(copy, "run.mjs"), RUNNER);
  return copy;
}

/** The source of a mutant's file, changed. */
function mutate({ name, file, text, replacement }) {
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
    const { name, file } = mutant;
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
const copy = makeCopy();
try {
  const all = await readMutants(copy);
  const mutants = all.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
  for (const mutant of all) mutate(mutant); // all of them apply, before any is run
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
