/** Explanations: the cause that was planted is named, and the numbers are those of the contract. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compareAnswer, expectedAnswer } from "../../src/oracle/answers.js";
import { HYPOTHESES } from "../../src/oracle/arithmetic.js";
import { makeCase } from "../../src/oracle/cases.js";
import type { Cause } from "../../src/oracle/causes.js";
import { explainRow, formatExplanation } from "../../src/oracle/explain.js";
import { type Explanation, explainAnswer, explanationLines } from "../../src/oracle/explain-answer.js";
import { bytesOf } from "../../src/oracle/packed.js";
import { makeSpec, type SpecOptions } from "../../src/oracle/spec.js";
import { encodeRow, type RowInput } from "../../src/oracle/trace-row.js";
import { dequantize, dot, quantize } from "../../src/quants/index.js";
import { MUTANTS } from "../../src/vectors/mutants.js";
import { copyQuants, type QuantsCopy } from "./mutant-copy.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Explanations of the first wrong answers of a subject. */
function explainSubject(
  options: SpecOptions,
  answer: (asked: ReturnType<typeof makeCase>, right: Uint8Array) => Uint8Array,
  most = 5,
): Explanation[] {
  const spec = makeSpec({ seed: 5, count: 400, ...options });
  const out: Explanation[] = [];
  for (let i = 0; i < spec.count && out.length < most; i++) {
    const asked = makeCase(spec, i);
    const expected = expectedAnswer(spec, asked);
    const actual = answer(asked, expected);
    const explanation = explainAnswer(spec, asked, expected, actual);
    expect(explanation === undefined).toBe(compareAnswer(spec, expected, actual) === undefined);
    if (explanation) out.push(explanation);
  }
  return out;
}

const fitting = (explanation: Explanation): string[] =>
  explanation.causes.filter((cause) => cause.unexplainedBytes === 0).map((cause) => cause.cause);

const valuesOf = (asked: ReturnType<typeof makeCase>): Float32Array => asked.values as Float32Array;

describe("builds that differ in one way", () => {
  const rows = HYPOTHESES.filter(({ detail }) => detail !== "ties to even");
  test.each(rows)("$cause: $detail", ({ cause, detail, arithmetic }) => {
    const type = cause === "division instead of reciprocal" ? "Q8_0" : "Q4K";
    const found = explainSubject({ type }, (asked) =>
      encodeRow({ type, algorithm: "ggml", values: valuesOf(asked) }, arithmetic),
    );
    expect(found.length).toBeGreaterThan(0);
    for (const { causes } of found) expect(causes.map((fit) => fit.detail)).toContain(detail);
  });

  test("the other lineage", () => {
    const found = explainSubject(
      { type: "Q3K" },
      (asked) => quantize("Q3K", valuesOf(asked), { shape: [256], algorithm: "mistralrs" }).data,
    );
    expect(found.map(fitting).every((causes) => causes.includes("other lineage"))).toBe(true);
    expect(found).toHaveLength(5);
  });

  test("importance that was not used", () => {
    const found = explainSubject(
      { type: "Q4_0", importance: true },
      (asked) => quantize("Q4_0", valuesOf(asked), { shape: [256] }).data,
    );
    expect(found.map(fitting).every((causes) => causes.includes("other importance"))).toBe(true);
  });

  test("all blocks where the second belongs", () => {
    const found = explainSubject({ type: "Q6K", columns: 512 }, (_asked, right) => {
      const out = right.slice();
      out.copyWithin(210, 0, 210);
      return out;
    });
    expect(found.map(fitting).every((causes) => causes.includes("wrong stride"))).toBe(true);
    expect(explanationLines(found[0]).join("\n")).toMatch(/cause: wrong stride \(block 0 is here\): fits/);
  });

  test("numbers stored big-endian", () => {
    const found = explainSubject({ type: "Q8_0" }, (_asked, right) => {
      const out = right.slice();
      for (let at = 0; at < out.length; at += 34) out.subarray(at, at + 2).reverse();
      return out;
    });
    expect(found.map(fitting).every((causes) => causes.includes("wrong byte order"))).toBe(true);
  });

  test.each(["HQQ4", "FP8"])("%s of the other lineage", (type) => {
    const algorithm = type === "FP8" ? "mistralrs" : "hqq";
    const found = explainSubject({ type }, (asked) => {
      const tensor = quantize(type, valuesOf(asked), { shape: [1, 256], algorithm });
      const sides =
        type === "FP8"
          ? [Float32Array.of(tensor.quantizeScale as number, tensor.dequantizeScale as number)]
          : [tensor.scales as Float32Array, tensor.zeros as Float32Array];
      return Uint8Array.from([tensor.data, ...sides.map(bytesOf)].flatMap((part) => [...part]));
    });
    expect(found.map(fitting).every((causes) => causes.includes("other lineage"))).toBe(true);
  });

  test("what nobody knows has no cause", () => {
    const [found] = explainSubject({ type: "Q4_1" }, (_asked, right) =>
      right.map((byte, i) => byte ^ (i * 37 + 11)),
    );
    expect(found.causes).toEqual([]);
    expect(explanationLines(found).at(-1)).toBe("no known cause comes near");
  });
});

describe("what the contract computed", () => {
  // 0.5 is a tie of -8 steps of 1/8 … 7 steps; its code is 12 under round-half-up of v + 8.5.
  const values = new Float32Array(32);
  values.set([-1, 0.5625, 0.25]);
  const row: RowInput = { type: "Q4_0", algorithm: "ggml", values };

  test("names scale, element, codes and the distance from a tie", () => {
    const expected = encodeRow(row);
    const actual = expected.slice();
    actual[2 + 1] ^= 1;
    const found = explainRow(row, expected, actual);
    expect(found).toMatchObject({
      block: 0,
      field: "qs[1]",
      differingBytes: 1,
      differingCodes: 1,
      numbers: [],
      element: { index: 1, value: 0.5625, expectedCode: 13, actualCode: 12, quotient: 4.5, ulpsFromTie: 0 },
      searches: [{ of: "the block", tried: 1, winner: { scale: 0.125 } }],
    });
    expect(formatExplanation(found!).join("\n")).toContain(
      "contract code 13, given 12; quotient 4.5, 0 ulp from a tie",
    );
  });

  test("counts a scale's steps in its own format", () => {
    const expected = encodeRow(row);
    const actual = expected.slice();
    actual[0] += 3;
    expect(explainRow(row, expected, actual)?.numbers).toEqual([
      { name: "d", expected: 0.125, actual: 0.125 + 3 * 2 ** -13, ulps: 3 },
    ]);
  });

  test("has a search's candidates, the best two and what lies between them", () => {
    const spec = makeSpec({ type: "Q4K", seed: 9 });
    const asked = valuesOf(makeCase(spec, 4));
    const row: RowInput = { type: "Q4K", algorithm: "ggml", values: asked };
    const expected = encodeRow(row);
    const actual = expected.slice();
    actual[4 + 3] ^= 1; // the scale of sub-block 3
    const found = explainRow(row, expected, actual);
    const search = found?.searches[0];
    expect(search?.of).toBe("sub-block 3");
    expect(search?.tried).toBeGreaterThan(1);
    expect(search?.winner.value).toBeLessThanOrEqual(search?.second?.value as number);
    expect(search?.ulps).toBeGreaterThanOrEqual(0);
    expect(found?.numbers.map(({ name }) => name)).toEqual(["scale 3"]);
  });

  test("decoded: the numbers an element is made of, and a cause", () => {
    const spec = makeSpec({ operation: "decode", type: "Q2K", seed: 2, count: 50 });
    const found = explainSubject({ operation: "decode", type: "Q2K" }, (asked) => {
      const data = asked.parts["data"].slice();
      for (let i = 16; i < 80; i++) data[i] = (data[i] >> 4) | (data[i] << 4);
      return bytesOf(dequantize({ type: "Q2K", algorithm: "ggml", shape: [256], data }));
    });
    expect(spec.operation).toBe("decode");
    expect(found.map(fitting).every((causes) => causes.includes("wrong nibble order"))).toBe(true);
    expect(explanationLines(found[0])[1]).toMatch(/^from d \S+, dmin \S+, scale \d+, min \d+, code \d$/);
  });

  test("dot: the other order", () => {
    const found = explainSubject({ operation: "dot", type: "Q4K" }, (asked) =>
      bytesOf(Float32Array.of(dot("Q4K", asked.parts["weights"], asked.parts["activations"], "mistralrs"))),
    );
    expect(found.length).toBeGreaterThan(0);
    expect(found.map(fitting).every((causes) => causes.includes("other lineage"))).toBe(true);
  });
});

describe("mistakes planted in the sources", () => {
  let copy: QuantsCopy;
  beforeAll(() => {
    copy = copyQuants();
  });
  afterAll(() => copy.remove());

  test.each([
    ["ties away from zero, ggml", "Q4K", "other nearest-integer rule (ties away from zero)"],
    [
      "reciprocal instead of division, recode",
      "Q2K",
      "reciprocal instead of division (where values are coded)",
    ],
    [
      "reciprocal instead of division, Q6K and Q3K",
      "Q6K",
      "reciprocal instead of division (where values are coded)",
    ],
    [
      "division instead of reciprocal, Q8_0",
      "Q8_0",
      "division instead of reciprocal (where values are coded)",
    ],
    ["nibbles swapped", "Q4_0", "wrong nibble order (low and high halves of bytes swapped)"],
    ["truncation instead of rounding, Q4 and Q5", "Q4_0", "other nearest-integer rule (always down)"],
  ])("%s, %s", (name, type, cause) => {
    const mutant = MUTANTS.find((candidate) => candidate.name === name);
    if (!mutant) throw new Error(`no mutant ${name}`);
    copy.plant(mutant);
    const subject = ["--", process.execPath, "test/oracle/subject.mjs", copy.folder];
    const args = [
      "dist/cli/main.js",
      "vectors",
      "run",
      "--explain",
      "--type",
      type,
      "--seed",
      "7",
      ...subject,
    ];
    const { stdout, status } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
    const asJson = spawnSync(process.execPath, [...args.slice(0, 4), "--json", ...args.slice(4)], {
      cwd: root,
      encoding: "utf8",
    });
    copy.restore(mutant);
    expect(status).toBe(1);
    expect(stdout).toContain(`\n  ${cause} explains all `);
    const { causes, findings } = JSON.parse(asJson.stdout);
    expect(causes.map((fit: Cause) => `${fit.cause} (${fit.detail})`)).toContain(cause);
    expect(findings[0].explanation).toMatchObject({ of: "encode", block: expect.any(Number) });
  });
});
