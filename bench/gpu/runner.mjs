// As much of vitest as the suites in test/suites use, for machines that have none: the bundle of bench/gpu.mjs puts this in
// its place. Tests run in order, failures are collected.
import { isDeepStrictEqual } from "node:util";

const root = { name: "", tests: [], groups: [], before: [], after: [] };
let current = root;

export function describe(name, define) {
  const group = { name, tests: [], groups: [], before: [], after: [] };
  current.groups.push(group);
  const outer = current;
  current = group;
  define();
  current = outer;
}
describe.skipIf = (skip) => (name, define) => skip || describe(name, define);

export function it(name, run) {
  current.tests.push({ name, run });
}
it.each = (rows) => (name, run) => {
  for (const row of rows) {
    const values = Array.isArray(row) ? row : [row];
    it(name.replace("%s", values[0]), () => run(...values));
  }
};
export const test = it;
export const beforeAll = (run) => current.before.push(run);
export const afterAll = (run) => current.after.push(run);

const show = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return String(text).slice(0, 400);
};

function matches(actual, wanted) {
  if (wanted === null || typeof wanted !== "object") return Object.is(actual, wanted);
  return Object.entries(wanted).every(([key, value]) => matches(actual?.[key], value));
}

/** The matchers that the suites use. */
export function expect(actual, about = "") {
  const check = (holds, wanted) => {
    if (!holds) throw new Error(`${about} expected ${wanted}, got ${show(actual)}`);
  };
  const rejected = (use) => async (wanted) => {
    const error = await actual.then(
      () => undefined,
      (reason) => reason,
    );
    use(error, wanted);
  };
  return {
    toBe: (wanted) => check(Object.is(actual, wanted), show(wanted)),
    toBeUndefined: () => check(actual === undefined, "undefined"),
    toEqual: (wanted) => check(isDeepStrictEqual(actual, wanted), show(wanted)),
    toBeLessThan: (bound) => check(actual < bound, `less than ${bound}`),
    toBeLessThanOrEqual: (bound) => check(actual <= bound, `at most ${bound}`),
    toBeGreaterThan: (bound) => check(actual > bound, `more than ${bound}`),
    toBeGreaterThanOrEqual: (bound) => check(actual >= bound, `at least ${bound}`),
    not: { toEqual: (other) => check(!isDeepStrictEqual(actual, other), `other than ${show(other)}`) },
    toHaveLength: (wanted) => check(actual.length === wanted, `${wanted} elements`),
    rejects: {
      toMatchObject: rejected((error, wanted) => {
        if (!matches(error, wanted)) throw new Error(`expected ${show(wanted)}, got ${error}`);
      }),
    },
  };
}

/** Runs everything that was defined but for tests that match `skip`. Returns counts, what failed and what was skipped. */
export async function runAll(log, skip) {
  const result = { passed: 0, failures: [], skipped: [] };
  await runGroup(root, "", result, { log, skip });
  return result;
}

async function runGroup(group, path, result, { log, skip }) {
  const here = group.name ? `${path}${group.name} › ` : path;
  for (const run of group.before) await run();
  for (const { name, run } of group.tests) {
    const start = performance.now();
    if (skip.test(name)) {
      result.skipped.push(`${here}${name}`);
      continue;
    }
    try {
      await run();
      result.passed++;
    } catch (error) {
      result.failures.push(`${here}${name}: ${error?.message ?? error}`.slice(0, 1000));
    }
    const seconds = (performance.now() - start) / 1000;
    if (seconds > 5) log(`${here}${name}: ${seconds.toFixed(1)} s`);
  }
  for (const inner of group.groups) await runGroup(inner, here, result, { log, skip });
  for (const run of group.after) await run();
}
