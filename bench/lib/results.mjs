// Results as JSON beside the programs, one file per program; a run replaces the rows that it measured.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";

const folder = new URL("../results/", import.meta.url);

export function machine() {
  return { processor: cpus()[0].model.trim(), cores: cpus().length, node: process.version };
}

export function readResults(name) {
  try {
    return JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8"));
  } catch {
    return undefined;
  }
}

/** `rows` replace those with the same `key(row)`. */
export function writeResults(name, settings, rows, key) {
  const fresh = new Set(rows.map(key));
  const kept = (readResults(name)?.rows ?? []).filter((row) => !fresh.has(key(row)));
  const all = [...kept, ...rows];
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    new URL(`${name}.json`, folder),
    `${JSON.stringify({ machine: machine(), settings, rows: all }, null, 1)}\n`,
  );
}

export const round = (value, digits = 3) => Number(value.toPrecision(digits));
