// What test files import as "vitest" under mutation: collects their tests, so that one process can run any of them again
// and again. Assertions are vitest's own. Only what the chosen files use is here; anything else throws when it is read.
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from "@vitest/expect";

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);

export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect);
globalThis[GLOBAL_EXPECT] = expect;
setState({ assertionCalls: 0 }, expect);
Object.assign(expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);

/** Every test of the files that were imported: { name, run, hooks, after }. */
export const tests = [];
let path = [];
let hooks = [];
let after = [];

/** Names of tests that come from a table: what vitest would print, roughly, and the row's number. */
function eachOf(add) {
  return (rows, ...rest) =>
    rest.length > 0
      ? undefined
      : (name, run, ...options) =>
          rows.forEach((row, index) => {
            const given = Array.isArray(row) ? row : [row];
            add(`${name} #${index} ${String(given[0]).slice(0, 60)}`, () => run(...given), ...options);
          });
}

export function describe(name, define) {
  const outer = [path, hooks];
  path = [...path, name];
  hooks = [...hooks];
  define();
  [path, hooks] = outer;
}
describe.each = eachOf(describe);

/** Also with options between name and function, which are not heeded. */
export function test(name, ...rest) {
  const run = rest.find((part) => typeof part === "function");
  tests.push({ name: [...path, name].join(" > "), run, hooks, after });
}
test.each = eachOf(test);
test.runIf = (condition) => (condition ? test : () => {});
export const it = test;

/** Hooks run once, before the first test of theirs; what they put up stays. */
export const beforeAll = (run) => hooks.push({ run, done: false });
export const afterAll = () => {};
/** Only for whole files. */
export const afterEach = (run) => after.push(run);

export const startFile = (name) => {
  path = [name];
  hooks = [];
  after = [];
};
