import fc from "fast-check";
import { expect, test } from "vitest";
import {
  finishJson,
  type JsonCursor,
  JsonError,
  openJson,
  peekKind,
  quote,
  readArray,
  readCount,
  readObject,
  readString,
  skipValue,
} from "../../src/files/json.js";

const LIMITS = { depth: 20, entries: 100 };

/** Reads what the functions under test can read; other values are passed over and come back as undefined. */
function read(json: JsonCursor): unknown {
  const kind = peekKind(json);
  if (kind === "object") {
    const entries: [string, unknown][] = [];
    readObject(json, (key) => void entries.push([key, read(json)]));
    return Object.fromEntries(entries);
  }
  if (kind === "array") {
    const items: unknown[] = [];
    readArray(json, () => void items.push(read(json)));
    return items;
  }
  if (kind === "string") return readString(json);
  if (kind === "number") return readCount(json);
  return skipValue(json);
}

function parse(text: string, reader = read): unknown {
  const json = openJson(text, LIMITS);
  const value = reader(json);
  finishJson(json);
  return value;
}

test("reads what JSON.stringify writes, with any white space", () => {
  const leaf = fc.oneof(
    fc.nat(),
    fc.maxSafeNat(),
    fc.string({ unit: "grapheme" }),
    fc.constant('\u2028\n"\\/'),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 5 }, leaf, fc.array(tie("value")), fc.dictionary(fc.string(), tie("value"))),
  }));
  fc.assert(
    fc.property(value, fc.constantFrom("", " ", "\t", "\n  "), (value, space) => {
      const text = `${space}${JSON.stringify(value, null, space)}${space}`;
      expect(parse(text)).toEqual(JSON.parse(text));
      parse(text, skipValue);
    }),
    { seed: 21 },
  );
});

test("accepts exactly what JSON.parse accepts, but for duplicate keys and half surrogates", () => {
  const piece = fc.constantFrom(
    ..."{}[]:,\"'\\/ \n\t\u0000\u00a0\ufeff0123-+.eEx",
    ..."true false null 01 -0 1.5 1e9 .5 \\n \\u0041 \\ud83d\\ude00 \\x [] {}".split(" "),
    '"a"',
    '"b":',
  );
  const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
  const accepts = (parser: (text: string) => unknown, input: string) => {
    try {
      parser(input);
      return true;
    } catch (error) {
      if (error instanceof JsonError && error.rule !== "syntax") return "other";
      if (error instanceof SyntaxError || error instanceof JsonError) return false;
      throw error;
    }
  };
  fc.assert(
    fc.property(text, (input) => {
      const ours = accepts((source) => parse(source, skipValue), input);
      if (ours !== "other") expect(ours).toBe(accepts(JSON.parse, input));
    }),
    { numRuns: 20_000, seed: 22, examples: [["[-0,1.5]"], ['{"a":[]}'], ["[1e9,0]"], ['"\\ud83d\\ude00"']] },
  );
});

test.each([
  ["9007199254740991", 9007199254740991],
  ["0", 0],
  ["9007199254740992", null],
  ["9007199254740993", null],
  ["1e3", null],
  ["1.0", null],
  ["-0", null],
  ["-1", null],
  ["1e308", null],
  ["true", null],
  ['"1"', null],
])("the count in %s is %s", (text, count) => {
  expect(readCount(openJson(text, LIMITS))).toBe(count);
});

test.each([
  ["duplicate", '{"a":1,"\\u0061":2}', 7],
  ["duplicate", '{"__proto__":1,"__proto__":2}', 15],
  ["duplicate", '{"":1,"b":{"c":1,"c":1}}', 17],
  ["limit", `${"[".repeat(21)}`, 21],
  ["limit", `{${Array.from({ length: 101 }, (_, i) => `"${i}":0`).join(",")}}`, null],
  ["syntax", '"\\ud800"', 8],
  ["syntax", '"\\ude00\\ud83d"', 14],
  ["syntax", '"\\', 3],
  ["syntax", '"', 1],
  ["syntax", "", 0],
  ["syntax", "[1,]", 3],
  ["syntax", "[1]]", 3],
])("a %s error in %s", (rule, text, offset) => {
  let error: unknown;
  try {
    parse(text, skipValue);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(JsonError);
  expect(error).toMatchObject(offset === null ? { rule } : { rule, offset });
});

test("quotes cut long text and show control characters", () => {
  expect(quote("model.norm.weight")).toBe('"model.norm.weight"');
  expect(quote("é😀")).toBe('"é😀"');
  expect(quote('"\u0000\u007f\u009b\u2028\u202e')).toBe('"\\"\\u0000\\u007f\\u009b\\u2028\\u202e"');
  expect(quote("x".repeat(1e6))).toBe(`"${"x".repeat(100)}…"`);
});

test("syntax errors say where", () => {
  for (const [text, offset] of [
    ['"\\x"', 4],
    ['"\\u12"', 6],
    ['"\\ud83d"', 8],
    ['"a\nb"', 2],
    ['"a', 2],
    ["[1 2]", 3],
    ['{"a" 1}', 5],
    ["tru", 0],
    ["-", 0],
    ["1 2", 2],
    ["", 0],
  ] as const) {
    expect(() => parse(text, skipValue), text).toThrow(expect.objectContaining({ rule: "syntax", offset }));
  }
  expect(() => parse("[-]")).toThrow(expect.objectContaining({ rule: "syntax", offset: 1 }));
});

test("all four kinds of white space, and no other", () => {
  expect(parse(" \r\n\t[ \r1\n,\t2 ]\r")).toEqual([1, 2]);
  expect(() => parse("\v1")).toThrow(expect.objectContaining({ rule: "syntax", offset: 0 }));
});

test("what is no count is told from one by null", () => {
  for (const text of ["true", "false", "null"]) {
    const json = openJson(text, LIMITS);
    expect(readCount(json)).toBeNull();
    expect(json.at).toBe(0);
    expect(skipValue(json)).toBeUndefined();
    expect(json.at).toBe(text.length);
  }
  expect(
    ["0", "9007199254740991", "9007199254740992", "-1", "1.5", "1e3"].map((text) => parse(text)),
  ).toEqual([0, 9007199254740991, null, null, null, null]);
});

test("texts are shown whole up to 100 characters", () => {
  expect(quote("a".repeat(100))).toBe(`"${"a".repeat(100)}"`);
  expect(quote("a".repeat(101))).toBe(`"${"a".repeat(100)}…"`);
});
