// Writes the generated parts of README.md: the table of types, the commands, the list of architectures. `--check` only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { ARCHITECTURE_NAMES, bitsPerWeight, TYPE_NAMES, TYPES } from "isq";
import { createProgram } from "../dist/cli/program.js";

const path = new URL("../README.md", import.meta.url);
const rows = TYPE_NAMES.map((name) => {
  const { algorithms, importance, dotPartner, fallback, summary } = TYPES[name];
  const cells = [
    name,
    bitsPerWeight(name),
    algorithms.join(", "),
    importance.join(", ") || "–",
    dotPartner ?? "f32",
    fallback ?? "–",
    summary,
  ];
  return `| ${cells.join(" | ")} |`;
});
const table = [
  "| type | bits/weight | algorithms, default first | importance | activations | falls back to | layout |",
  "|---|---|---|---|---|---|---|",
  ...rows,
].join("\n");

const commands = [
  "| command | what it does |",
  "|---|---|",
  ...(await createProgram()).commands.map(
    (command) => `| \`isq ${command.name()}\` | ${command.description()} |`,
  ),
].join("\n");

const before = readFileSync(path, "utf8");
const after = before
  .replace(/(<!-- types:[^>]*-->)[\s\S]*?(<!-- \/types -->)/, `$1\n${table}\n$2`)
  .replace(/(<!-- commands:[^>]*-->)[\s\S]*?(<!-- \/commands -->)/, `$1\n${commands}\n$2`)
  .replace(
    /(<!-- architectures -->)[\s\S]*?(<!-- \/architectures -->)/,
    `$1${ARCHITECTURE_NAMES.join(", ")}$2`,
  );
if (process.argv.includes("--check")) {
  if (after !== before) {
    console.error("README.md is not what the tables say; run node scripts/readme.mjs");
    process.exit(1);
  }
} else writeFileSync(path, after);
