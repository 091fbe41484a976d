// What scripts that take hours have in common: subjects that advance in batches, a state file from which the next run goes
// on, an end after some minutes.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const SAVE_EVERY_MS = 10_000;

/**
 * Advances each of `names` to `target`. `advance(name, progress)` does one batch, counts it in `progress[unit]`, and returns
 * what differed or undefined. The one that had the least time goes next, so that an early end has some of everything.
 * Returns the progress of all, by name.
 */
export async function runLong({ names, unit, target, minutes, stateFile, start, advance }) {
  const state = readState(stateFile);
  for (const name of names) state[name] ??= { batches: 0, seconds: 0, failures: [], ...start() };
  const end = performance.now() + 60_000 * minutes;
  let saved = performance.now();
  for (;;) {
    const open = names.filter((name) => state[name][unit] < target);
    if (open.length === 0 || performance.now() > end) break;
    open.sort((a, b) => state[a].seconds - state[b].seconds);
    await step(open[0], state[open[0]], advance);
    if (performance.now() - saved < SAVE_EVERY_MS) continue;
    writeState(stateFile, state);
    saved = performance.now();
  }
  writeState(stateFile, state);
  return state;
}

async function step(name, progress, advance) {
  const started = performance.now();
  const failure = await advance(name, progress);
  if (failure && progress.failures.length < 20) {
    progress.failures.push(`batch ${progress.batches}: ${failure}`);
    console.log(`${name}, batch ${progress.batches}: ${failure}`);
  }
  progress.batches++;
  progress.seconds += (performance.now() - started) / 1000;
}

/** 0 when all is done and nothing differed, 1 if anything differed, 3 if time ended first. */
export function exitCodeOf(state, names, unit, target) {
  if (names.some((name) => state[name].failures.length > 0)) return 1;
  return names.some((name) => state[name][unit] < target) ? 3 : 0;
}

function readState(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
}

function writeState(path, state) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, JSON.stringify(state, null, 1));
  renameSync(`${path}.new`, path);
}
