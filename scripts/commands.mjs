// Writes docs/commands.md from the definitions that the parser and `--help` use. `--check` only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { createProgram } from "../dist/cli/program.js";

const path = new URL("../docs/commands.md", import.meta.url);
const cell = (text) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;");

function describe(option) {
  const { argChoices: choices, defaultValue: preset } = option;
  return [
    option.description,
    ...(option.mandatory ? ["required"] : []),
    ...(choices ? [`one of ${choices.map((choice) => `\`${choice}\``).join(", ")}`] : []),
    ...(preset !== undefined && preset !== false ? [`default \`${preset}\``] : []),
    ...(option.envVar ? [`also from the environment: \`${option.envVar}\``] : []),
  ].join("; ");
}

/** A command, then what stands under it: its own commands, of which the model forms are told once. */
function section(command, name) {
  const words = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  );
  const forms = command.commands.filter((one) => FORMS.has(one.name())).map((one) => one.name());
  const usage = [name, "[options]", ...words, ...(forms.length > 0 ? [forms.join("|"), "…"] : [])].join(" ");
  const rows = command.options.filter(({ hidden }) => !hidden);
  const others = command.commands.filter((one) => !FORMS.has(one.name()));
  return [
    `### ${name}`,
    `\`${usage}\`: ${cell(command.description())}.`,
    ...(rows.length > 0 ? [table(rows)] : []),
    ...others.map((one) => section(one, `${name} ${one.name()}`)),
  ].join("\n\n");
}

function table(options) {
  const rows = options.map(
    (option) => `| \`${option.flags.replaceAll("|", "\\|")}\` | ${cell(describe(option))} |`,
  );
  return ["| flag | meaning |", "|---|---|", ...rows].join("\n");
}

const FORMS = new Set(["plain", "gguf", "toml"]);
const program = await createProgram();
const serve = program.commands.find((command) => command.name() === "serve");
const text = `<!-- Made by scripts/commands.mjs from the definitions of the flags; a test compares. -->

# Commands

Flags stand after the command and before the model form; a command's flags may also stand after the form. What contradicts
itself is refused before anything is loaded. Exit codes: 0 done, 1 failed while working or judged wrong, 2 bad input, 130
interrupted.

## Model forms

${serve.commands.map((form) => section(form, form.name())).join("\n\n")}

## All commands

${program.commands.map((command) => section(command, `isq ${command.name()}`)).join("\n\n")}
`;

if (process.argv.includes("--check")) {
  if (readFileSync(path, "utf8") !== text) {
    console.error("docs/commands.md is not what the flags say; run node scripts/commands.mjs");
    process.exit(1);
  }
} else writeFileSync(path, text);
