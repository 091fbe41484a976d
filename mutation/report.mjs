// Tables of scripts/mutation.mjs: scores by file, and what survived by kinds, which docs/mutation.md explains.
import { readFileSync, writeFileSync } from "node:fs";
import { COVERS } from "./groups.mjs";

const COUNTS = ["mutants", "killed", "endless", "survived", "unreached", "ignored"];

export function count(mutants) {
  const of = (...statuses) => mutants.filter(({ status }) => statuses.includes(status)).length;
  const counts = {
    killed: of("Killed", "RuntimeError"),
    endless: of("Timeout"),
    survived: of("Survived"),
    unreached: of("NoCoverage"),
    ignored: of("Ignored"),
  };
  const { killed, endless, survived, unreached } = counts;
  return { mutants: killed + endless + survived + unreached, ...counts };
}

/** Rows of all files, then one of each folder. `results` are files and their mutants. */
export function scoreRows(results) {
  const rows = results
    .map(({ file, mutants }) => ({ file, ...count(mutants) }))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
  for (const folder of COVERS) {
    const inside = rows.filter(({ file }) => file.startsWith(`${folder}/`));
    if (inside.length === 0) continue;
    const sum = (key) => inside.reduce((total, row) => total + row[key], 0);
    rows.push({ file: `all of ${folder}`, ...Object.fromEntries(COUNTS.map((key) => [key, sum(key)])) });
  }
  return rows.map((row) => ({ ...row, score: row.mutants === 0 ? 100 : scoreOf(row) }));
}

const scoreOf = ({ killed, endless, mutants }) => (100 * (killed + endless)) / mutants;

export function scoreTable(rows) {
  const lines = rows.map(({ file, mutants, killed, endless, survived, unreached, score, ignored }) => {
    const name = file.replace("src/", "");
    const cells = [name, mutants, killed, endless, survived, unreached, `${score.toFixed(1)} %`, ignored];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    "| file | mutants | killed | endless | survived | not reached | score | static, not run |",
    "|---|---|---|---|---|---|---|---|",
    ...lines,
  ].join("\n");
}

/** What survived: { file, line, code, original, replacement, mutator, isReached }. `code` is the line and its neighbours. */
export function survivorsOf({ file, mutants }) {
  const lines = readFileSync(file, "utf8").split("\n");
  const flat = (text) => text.replace(/\s+/g, " ").trim();
  return mutants
    .filter(({ status }) => status === "Survived" || status === "NoCoverage")
    .map(({ status, mutatorName, location: { start, end }, replacement }) => {
      const line = lines[start.line - 1];
      const isWhole = start.line === end.line;
      return {
        file,
        line: start.line,
        code: lines.slice(Math.max(0, start.line - 4), start.line + 2).join("\n"),
        own: line,
        original: flat(isWhole ? line.slice(start.column - 1, end.column - 1) : `${line} …`),
        replacement: flat(replacement ?? ""),
        mutator: mutatorName,
        isReached: status === "Survived",
      };
    });
}

const isEdge = ({ original, replacement }) =>
  replacement === original.replace(/<=|>=|<|>/, (sign) => (sign.length > 1 ? sign[0] : `${sign}=`));

/** The first that fits counts; the last fits all. */
const KINDS = [
  ["not reached", ({ isReached }) => !isReached],
  [
    "words",
    ({ mutator, original, code }) =>
      mutator === "StringLiteral" &&
      (/[` ]/.test(original) || /rror|refuse|fail|message|warn|reason/.test(code)),
  ],
  ["details of an error", ({ mutator }) => mutator === "ObjectLiteral"],
  [
    "results that C leaves open",
    ({ file, original, mutator }) =>
      /quants/.test(file) && mutator !== "StringLiteral" && OPEN.test(original),
  ],
  [
    "one round more or less of a loop",
    ({ mutator, own }) => mutator === "EqualityOperator" && LOOP.test(own),
  ],
  ["the edge of a comparison", (mutant) => mutant.mutator === "EqualityOperator" && isEdge(mutant)],
  ["guards and shortcuts", ({ mutator }) => GUARDS.includes(mutator)],
  ["arithmetic", ({ mutator }) => /^(Arithmetic|Assignment|Unary|Update)/.test(mutator)],
  ["optional parts", ({ mutator }) => mutator === "OptionalChaining"],
  ["other texts and lists", () => true],
];
const OPEN = /algorithm|lineage|GGML|N === 15|[wW]rap/;
const LOOP = /\b(for|while) \(/;
const GUARDS = [
  "ConditionalExpression",
  "LogicalOperator",
  "EqualityOperator",
  "BooleanLiteral",
  "BlockStatement",
];

export const kindOf = (survivor) => KINDS.find(([, fits]) => fits(survivor))[0];

/** How many of each kind, with an example. */
export function kindTable(results) {
  const all = results.flatMap(survivorsOf).map((survivor) => ({ ...survivor, kind: kindOf(survivor) }));
  const lines = KINDS.map(([kind]) => {
    const ones = all.filter((survivor) => survivor.kind === kind);
    const counts = COVERS.map((folder) => ones.filter(({ file }) => file.startsWith(`${folder}/`)).length);
    return `| ${[kind, ...counts, exampleOf(ones)].join(" | ")} |`;
  });
  const sums = COVERS.map((folder) => all.filter(({ file }) => file.startsWith(`${folder}/`)).length);
  return [
    `| kind | ${COVERS.map((folder) => folder.replace("src/", "")).join(" | ")} | example |`,
    "|---|---|---|---|",
    ...lines,
    `| all | ${sums.join(" | ")} | |`,
  ].join("\n");
}

/** A short one, in code that a table can hold. */
function exampleOf(survivors) {
  const fits = survivors.filter(({ original, replacement }) => !/[|`]/.test(original + replacement));
  const shortest = fits.sort((a, b) => lengthOf(a) - lengthOf(b))[Math.floor(fits.length / 3)];
  if (!shortest) return "";
  const { file, line, original, replacement } = shortest;
  return `\`${original}\` → \`${replacement || "nothing"}\` (${file.replace("src/", "")}:${line})`;
}

const lengthOf = ({ original, replacement }) => original.length + replacement.length;

export function printSurvivors(results) {
  for (const survivor of results.flatMap(survivorsOf)) {
    const { file, line, original, replacement } = survivor;
    console.log(
      `${file}:${line} ${kindOf(survivor)}: ${original.slice(0, 90)} → ${replacement.slice(0, 90)}`,
    );
  }
}

/** Puts tables between the marks that a page has for them: <!-- name --> and <!-- end --> */
export function writeTables(path, tables) {
  let text = readFileSync(path, "utf8");
  for (const [name, table] of Object.entries(tables)) {
    const start = text.indexOf(`<!-- ${name} -->`);
    const end = text.indexOf("<!-- end -->", start);
    if (start < 0 || end < 0) throw new Error(`${path} has no place for ${name}`);
    text = `${text.slice(0, start)}<!-- ${name} -->\n${table}\n${text.slice(end)}`;
  }
  writeFileSync(path, text);
}
