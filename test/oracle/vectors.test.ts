/** Streams of vectors and their judge: what is right passes in any chunks, what is wrong is named. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import {
  answerByteLength,
  createJudge,
  expectedAnswer,
  inputByteLengths,
  inputBytes,
  makeCase,
  makeSpec,
  OPERATIONS,
  parseBinaryHeader,
  parseHeaderLine,
  type StreamFormat,
  type VectorSpec,
  type Verdict,
  writeAnswer,
  writeCase,
  writeHeader,
} from "../../src/oracle/index.js";
import { join } from "../../src/oracle/packed.js";
import { TYPE_NAMES, TYPES } from "../../src/quants/index.js";

/** Every operation, type, algorithm and importance setting there is. */
const SPECS: readonly VectorSpec[] = OPERATIONS.flatMap((operation) =>
  TYPE_NAMES.flatMap((type) => {
    if (operation === "dot" && TYPES[type].dotPartner === null) return [];
    return TYPES[type].algorithms.flatMap((algorithm) => {
      const make = (importance: boolean) =>
        makeSpec({ operation, type, algorithm, importance, count: 12, seed: 7 });
      return operation === "encode" && TYPES[type].importance.includes(algorithm)
        ? [make(false), make(true)]
        : [make(false)];
    });
  }),
);

const nameOf = (spec: VectorSpec): string =>
  `${spec.operation} ${spec.type} ${spec.algorithm}${spec.importance ? " importance" : ""}`;

/** What a perfect subject prints. */
function rightAnswers(spec: VectorSpec, format: StreamFormat): Uint8Array[] {
  const answers = Array.from({ length: spec.count }, (_, i) =>
    writeAnswer(format, i, expectedAnswer(spec, makeCase(spec, i))),
  );
  return [writeHeader(format, spec), ...answers];
}

function judge(stream: Uint8Array, cuts: readonly number[] = []): Verdict {
  const judging = createJudge();
  let from = 0;
  for (const cut of [...cuts.map((c) => c % (stream.length + 1)).sort((a, b) => a - b), stream.length]) {
    judging.push(stream.slice(from, cut));
    from = cut;
  }
  return judging.finish();
}

const text = (line: string): Uint8Array => new TextEncoder().encode(line);

describe("streams", () => {
  test.each(SPECS.map((spec) => [nameOf(spec), spec] as const))("%s", (_name, spec) => {
    for (const format of ["json", "binary"] as const) {
      const header = writeHeader(format, spec);
      expect(format === "json" ? parseHeaderLine(header) : parseBinaryHeader(header)).toEqual(spec);
      const verdict = judge(join(rightAnswers(spec, format)));
      expect(verdict).toMatchObject({ ok: true, identical: 12, complaints: [], spec });
    }
    const asked = makeCase(spec, 3);
    const lengths = Object.entries(asked.parts).map(([name, bytes]) => [name, bytes.length]);
    expect(Object.fromEntries(lengths)).toEqual(inputByteLengths(spec));
    expect(writeCase("binary", asked)).toEqual(inputBytes(asked));
    const line = JSON.parse(new TextDecoder().decode(writeCase("json", asked)));
    for (const [name, bytes] of Object.entries(asked.parts)) {
      expect(Buffer.from(line[name], "base64").equals(bytes)).toBe(true);
    }
  });

  it("are judged the same however they are cut", () => {
    const specs = SPECS.filter(({ type }) => ["Q4_0", "Q8K", "HQQ4", "FP8"].includes(type));
    const property = fc.property(
      fc.constantFrom(...specs),
      fc.constantFrom("json" as const, "binary" as const),
      fc.array(fc.nat(), { maxLength: 40 }),
      (spec, format, cuts) => judge(join(rightAnswers(spec, format)), cuts).ok,
    );
    fc.assert(property, { numRuns: 60 });
  });

  it("have cases that stay the same: other ones need another GENERATION", () => {
    const all = SPECS.flatMap((spec) => Array.from({ length: 12 }, (_, i) => inputBytes(makeCase(spec, i))));
    expect(bytesToHex(sha256(join(all)))).toMatchInlineSnapshot(
      `"cb9e878b9bde4d1854ab7b7f0133a8a4acefe6b34b32421d60a8c6405932af74"`,
    );
  });

  it("lean on the boundaries", () => {
    const spec = makeSpec({ type: "Q4K", importance: true, count: 3000, seed: 1 });
    const kinds = new Map<string, number>();
    for (let i = 0; i < spec.count; i++) {
      for (const kind of makeCase(spec, i).kind.split(", ")) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    for (const kind of ["ties", "nearTies", "equalMaxima", "subnormalHalf", "halfOverflow"]) {
      expect(kinds.get(kind), kind).toBeGreaterThan(100);
    }
    for (const kind of ["zeros", "importance zeros", "importance halfZero", "importance zeroRuns"]) {
      expect(kinds.get(kind), kind).toBeGreaterThan(20);
    }
  });

  test("another seed gives other cases, and each case can be made alone", () => {
    const [one, two] = [7, 8].map((seed) => makeSpec({ type: "Q4_0", seed }));
    expect(inputBytes(makeCase(one, 5))).toEqual(inputBytes(makeCase(one, 5)));
    expect(inputBytes(makeCase(one, 5))).not.toEqual(inputBytes(makeCase(two, 5)));
    expect(inputBytes(makeCase(one, 5))).not.toEqual(inputBytes(makeCase(one, 6)));
  });
});

describe("the judge", () => {
  const spec = makeSpec({ type: "Q4_0", count: 4, seed: 3, columns: 64 });
  const lines = rightAnswers(spec, "json");
  const [header, first, second, third, fourth] = lines;

  it("finds every flipped bit and says where it is", () => {
    const bits = fc.property(
      fc.constantFrom(...SPECS),
      fc.nat(11),
      fc.nat(),
      fc.nat(7),
      (any, index, at, bit) => {
        const stream = rightAnswers(any, "binary");
        const answer = stream[index + 1];
        const offset = at % answerByteLength(any);
        answer[offset] ^= 1 << bit;
        const verdict = judge(join(stream));
        // In a NaN, a bit may mean nothing.
        if (verdict.ok)
          return any.operation !== "encode" || [0x7c, 0x7f, 0x7e].includes(answer[offset | 1] & 0x7f);
        expect(verdict).toMatchObject({ different: 1, identical: 11, garbled: 0 });
        expect(verdict.findings[0]).toMatchObject({ case: index });
        return true;
      },
    );
    fc.assert(bits, { numRuns: 150 });
  });

  test("names block, field and byte", () => {
    const stream = rightAnswers(spec, "binary");
    stream[3][20] ^= 1;
    expect(judge(join(stream)).findings).toMatchObject([
      { case: 2, difference: { place: "block 1 of 2, qs[0]", block: 1, differingBytes: 1 } },
    ]);
  });

  test.each<[string, Uint8Array[], Partial<Verdict>, RegExp]>([
    ["nothing", [], { missing: 0 }, /no header arrived/],
    ["no header", [text("hello\n")], {}, /the header is cut: 6 bytes/],
    ["garbage", [text("hello ".repeat(20))], {}, /starts neither with/],
    ["another format", [text('{"format":"other"}\n')], {}, /its format is not isq-vectors\/1/],
    ["a header that is no JSON", [text("{not\n")], {}, /not JSON/],
    ["a cut header", [header.slice(0, 30)], {}, /the header is cut/],
    ["too few answers", [header, first, second], { identical: 2, missing: 2 }, /2 of 4 answers/],
    ["a cut answer", [header, first, second.slice(0, 20)], { identical: 1, missing: 3 }, /cut: 20 bytes/],
    ["too many", [...lines, text("{}\n")], { identical: 4 }, /more was printed than 4 answers/],
    ["an answer twice", [header, first, first], { identical: 1 }, /case 0 is answered again/],
    [
      "a case out of range",
      [header, text('{"case":9,"answer":""}\n')],
      {},
      /answers case 9, and case 0 is next/,
    ],
    ["an endless line", [header, text("x".repeat(10_000))], { missing: 4 }, /longer than/],
  ])("%s", (_what, stream, expected, complaint) => {
    const verdict = judge(join(stream));
    expect(verdict).toMatchObject({ ok: false, ...expected });
    expect(verdict.complaints.join("\n")).toMatch(complaint);
  });

  test.each<[string, string, RegExp]>([
    ["a line that is no JSON", "what?", /not JSON/],
    ["a line without a case", '{"answer":"AA=="}', /names no case/],
    ["a line without an answer", '{"case":1}', /no answer/],
    ["an answer that is no base64", '{"case":1,"answer":"*"}', /not base64/],
    ["an answer of another length", '{"case":1,"answer":"AA=="}', /has 1 bytes, not 36/],
  ])("%s is garbled, and the judge goes on", (_what, line, reason) => {
    const verdict = judge(join([header, first, text(`${line}\n`), third, fourth]));
    expect(verdict).toMatchObject({ ok: false, identical: 3, garbled: 1, complaints: [] });
    expect(verdict.findings[0].garbled).toMatch(reason);
  });

  test("an answer left out is one finding", () => {
    const verdict = judge(join([header, first, third, fourth]));
    expect(verdict).toMatchObject({ ok: false, identical: 3, garbled: 1 });
    expect(verdict.findings[0]).toMatchObject({ case: 1, garbled: expect.stringContaining("no answer") });
  });

  test("a last line without its end, and blank lines after it, are no fault", () => {
    expect(judge(join(lines).slice(0, -1)).ok).toBe(true);
    expect(judge(join([...lines, text("\n \r\n")])).ok).toBe(true);
  });

  test.each([
    ["another type", { type: "Q9" }, /Q9/],
    ["another format", { format: "isq-vectors/2" }, /format/],
    ["sizes that are not the type's", { answerBytes: 1 }, /answerBytes is 1, not/],
  ])("a header of %s is no header", (_, change, message) => {
    const line = JSON.stringify({ ...JSON.parse(new TextDecoder().decode(header)), ...change });
    expect(() => parseHeaderLine(text(line))).toThrow(
      expect.objectContaining({ tag: "vectors/header", message: expect.stringMatching(message) }),
    );
  });

  it("refuses vectors other than those it was asked to expect", () => {
    const judging = createJudge({ expect: makeSpec({ type: "Q4_0", count: 4, seed: 4, columns: 64 }) });
    expect(judging.push(header)).toBe(false);
    expect(judging.finish().complaints[0]).toMatch(/other vectors/);
  });

  it("never throws for what arrives", () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    const started = fc.constantFrom(new Uint8Array(), header, writeHeader("binary", spec), text("{"));
    fc.assert(fc.property(started, bytes, (start, rest) => !judge(join([start, rest]), [7, 70]).ok));
  });
});

describe("specs", () => {
  test.each<[string, Parameters<typeof makeSpec>[0], string]>([
    ["type", { type: "Q9" }, "type/unknown"],
    ["operation", { type: "Q4_0", operation: "guess" }, "option/invalid"],
    ["algorithm", { type: "Q4_0", algorithm: "ocp" }, "algorithm/unknown"],
    ["importance", { type: "Q8_0", importance: true }, "importance/unsupported"],
    [
      "importance of a decoder",
      { type: "Q4K", operation: "decode", importance: true },
      "importance/unsupported",
    ],
    ["dot of FP8", { type: "FP8", operation: "dot" }, "type/unsupported"],
    ["columns", { type: "Q4K", columns: 128 }, "shape/block"],
    ["columns above the cap", { type: "Q4K", columns: 2 ** 21 }, "option/invalid"],
    ["count", { type: "Q4K", count: 0 }, "option/invalid"],
    ["seed", { type: "Q4K", seed: -1 }, "option/invalid"],
  ])("%s", (_what, options, tag) => {
    expect(() => makeSpec(options)).toThrow(expect.objectContaining({ tag }));
  });
});
