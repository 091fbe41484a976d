import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern } from "../src/pattern.js";
import { expectBounded } from "./suites/bounded.js";

/** Any pattern of the supported syntax, small enough for the backtracking of RegExp. */
const { pattern: anyPattern } = fc.letrec<{ pattern: string; item: string; piece: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 3 },
    fc.array(tie("piece"), { maxLength: 4 }).map((pieces) => pieces.join("")),
    fc.tuple(tie("piece"), tie("piece")).map(([a, b]) => `${a}|${b}`),
  ),
  piece: fc.oneof(
    tie("item"),
    fc.constantFrom("^", "$", "\\b", "\\B"),
    fc
      .tuple(tie("item"), fc.constantFrom("*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "{0}"))
      .map((parts) => parts.join("")),
  ),
  item: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.constantFrom("a", "b", "0", "_", "\\.", ".", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S"),
    fc.constantFrom("[ab]", "[^ab]", "[a-c0]", "[\\d.]", "[-a]", "[a-]", "[^\\w]", "[]", "[^]", "[.*+]"),
    fc.tuple(fc.constantFrom("(", "(?:", "(?<n>"), tie("pattern")).map(([open, inner]) => `${open}${inner})`),
  ),
}));

test("matches what RegExp matches", () => {
  const name = fc.string({ unit: fc.constantFrom(..."aabbc0_. -"), maxLength: 8 });
  fc.assert(
    fc.property(anyPattern, fc.array(name, { minLength: 3, maxLength: 6 }), (source, names) => {
      // A name may be given to one group only.
      const [compiled, native] = [compilePattern(source), new RegExp(source.replaceAll("?<n>", ""))];
      for (const candidate of names) {
        expect(compiled.test(candidate), `/${source}/ on ${candidate}`).toBe(native.test(candidate));
      }
    }),
    { numRuns: 3000, seed: 4 },
  );
});

test("of any characters it makes a pattern that matches as RegExp does, or a tagged error", () => {
  const text = fc.string({ unit: fc.constantFrom(..."ab01.*+?|(){}[]^$\\-,:<>P=!dwsbn"), maxLength: 12 });
  let compiled = 0;
  fc.assert(
    fc.property(text, (source) => {
      try {
        const pattern = compilePattern(source);
        compiled++;
        const native = new RegExp(source.replace(/\?P?<\w+>/g, ""));
        for (const name of ["", "a", "ab", "a0b1", "b.d"]) expect(pattern.test(name)).toBe(native.test(name));
      } catch (error) {
        expect(error, source).toMatchObject({ tag: "topology/pattern", details: { field: "pattern" } });
      }
    }),
    { numRuns: 5000, seed: 5 },
  );
  expect(compiled).toBeGreaterThan(500);
});

describe("patterns on which backtracking takes exponential time", () => {
  const name = `model.layers.12.${"a".repeat(4000)}!`;
  test.each(["(a+)+$", "(a|a)*b$", "(a|aa)+$", "(.*)*x$", "(\\w+\\.?)+\\d$", "([a-z]+)*-", "(a?){90}a{90}$"])(
    "/%s/ is linear",
    (source) => {
      expect(expectBounded(5, () => compilePattern(source).test(name))).toBe(false);
    },
  );

  test.each([
    "((a{99}){99}){99}",
    "(((){9999}){9999}){9999}",
    "a{9999}b{9999}",
    "(".repeat(400),
    `${"a".repeat(600)}`,
  ])("case %# of too much is refused at once", (source) => {
    const refused = () => compilePattern(source);
    expectBounded(1, () =>
      expect(refused).toThrowError(expect.objectContaining({ tag: "topology/pattern" })),
    );
  });
});

test.each([
  "(?=a)",
  "(?!a)",
  "(?<=a)",
  "(a)\\1",
  "\\x41",
  "\\p{L}",
  "a**",
  "*a",
  "[b-a]",
  "[a",
  "(a",
  "a)",
  "a\\",
  "a{3,2}",
  "{",
  "]",
])("/%s/ is refused", (source) => {
  expect(() => compilePattern(source)).toThrowError(expect.objectContaining({ tag: "topology/pattern" }));
});
