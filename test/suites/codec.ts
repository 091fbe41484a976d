/** The codec suite: everything golden, on the implementation given. Prints what passed; a missing case is a failure. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadVectors } from "../vectors/load.js";
import { type Check, type Codec, goldenChecks, nonFiniteChecks } from "./codec-checks.js";

type Counts = Readonly<Record<string, number>>;

const DOTS = { "dot ggml": 4, "dot mistralrs": 4 };
const OBSERVED = "non-finite, observed";
const RAW = { "raw blocks": 1 };

/** How many golden checks of each kind exist: the suite fails if it ran any other number of them. */
const EXPECTED: Readonly<Record<string, Counts>> = {
  Q4_0: { ggml: 38, "ggml importance": 37, mistralrs: 39, ...RAW, ...DOTS },
  Q4_1: { ggml: 38, "ggml importance": 39, mistralrs: 37, ...RAW, ...DOTS },
  Q5_0: { ggml: 38, "ggml importance": 37, mistralrs: 39, ...RAW, ...DOTS },
  Q5_1: { ggml: 38, "ggml importance": 39, mistralrs: 37, ...RAW, ...DOTS },
  Q8_0: { ggml: 38, mistralrs: 39, ...RAW, ...DOTS },
  Q8_1: { ggml: 38, mistralrs: 39, ...RAW },
  Q2K: {
    ggml: 34,
    "ggml importance": 35,
    mistralrs: 35,
    "mistralrs importance": 32,
    traps: 2,
    ...RAW,
    ...DOTS,
  },
  Q3K: {
    ggml: 35,
    "ggml importance": 35,
    mistralrs: 35,
    "mistralrs importance": 30,
    traps: 4,
    ...RAW,
    ...DOTS,
  },
  Q4K: {
    ggml: 35,
    "ggml importance": 35,
    mistralrs: 35,
    "mistralrs importance": 32,
    traps: 2,
    ...RAW,
    ...DOTS,
  },
  Q5K: {
    ggml: 35,
    "ggml importance": 35,
    mistralrs: 35,
    "mistralrs importance": 32,
    traps: 2,
    ...RAW,
    ...DOTS,
  },
  Q6K: {
    ggml: 35,
    "ggml importance": 35,
    mistralrs: 35,
    "mistralrs importance": 35,
    traps: 4,
    ...RAW,
    ...DOTS,
  },
  Q8K: { ggml: 35, mistralrs: 35, ...RAW },
  HQQ4: { mistralrs: 13, hqq: 13 },
  HQQ8: { mistralrs: 13, hqq: 13 },
  FP8: { ocp: 13, mistralrs: 13 },
  conversions: { all: 5 },
};

/** Golden checks of a subject that an implementation with these parts must pass. */
function expectedCounts(subject: string, codec: Codec): Counts {
  const kinds = Object.entries(EXPECTED[subject]);
  return Object.fromEntries(
    kinds.filter(([kind]) => {
      if (subject === "conversions") return codec.convert;
      if (!kind.startsWith("dot ")) return true;
      return codec.dot && (codec.dotOrders ?? ["ggml", "mistralrs"]).some((order) => kind === `dot ${order}`);
    }),
  );
}

/** Counts by kind of the checks that pass, and the others with what is wrong. */
async function runChecks(codec: Codec, checks: readonly Check[]) {
  const passed: Record<string, number> = {};
  const failures: string[] = [];
  for (const check of checks) {
    const wrong = await check.run(codec).catch((error: unknown) => `throws ${error}`);
    if (wrong) failures.push(`${check.id}: ${wrong}`);
    else passed[check.kind] = (passed[check.kind] ?? 0) + 1;
  }
  return { passed, failures };
}

/** Runs the golden set on what `makeImplementation` returns. */
export function codecSuite(name: string, makeImplementation: () => Codec | Promise<Codec>): void {
  describe(`golden set, ${name}`, () => {
    const vectors = loadVectors();
    const table: Record<string, Counts> = {};
    let codec: Codec;
    let checks: readonly Check[];
    beforeAll(async () => {
      codec = await makeImplementation();
      checks = goldenChecks(vectors, codec);
    });
    afterAll(async () => {
      await codec?.dispose?.();
      const rows = Object.entries(table).filter(([subject]) => subject !== OBSERVED);
      const golden = rows.reduce((sum, [, row]) => sum + sumOf(row) - (row["traps"] ?? 0), 0);
      console.log(
        `golden checks passed, ${name}: ${golden}; beside them traps and observations, by subject:`,
      );
      for (const [subject, row] of Object.entries(table)) console.log(`  ${subject}: ${formatCounts(row)}`);
    });

    for (const subject of Object.keys(EXPECTED)) {
      it(subject, async () => {
        const mine = checks.filter((check) => check.subject === subject);
        const { passed, failures } = await runChecks(codec, mine);
        table[subject] = passed;
        expect(failures).toEqual([]);
        expect(passed).toEqual(expectedCounts(subject, codec));
      });
    }

    it("NaN and infinities under nonFinite: raw", async () => {
      const { passed, failures } = await runChecks(codec, nonFiniteChecks(vectors));
      table[OBSERVED] = passed;
      expect(failures).toEqual([]);
      expect(passed).toEqual({ "raw ggml": 137, "raw mistralrs": 176 });
    });
  });
}

const sumOf = (row: Counts): number => Object.values(row).reduce((a, b) => a + b, 0);

function formatCounts(row: Counts): string {
  const parts = Object.entries(row).map(([kind, count]) => `${kind} ${count}`);
  return `${sumOf(row)} (${parts.join(", ")})`;
}
