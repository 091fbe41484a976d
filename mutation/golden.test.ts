/** The golden set in small tests, so that a mutant meets only those that run it, and stops at the first. */

import { describe, expect, test } from "vitest";
import { goldenChecks, nonFiniteChecks } from "../test/suites/codec-checks.js";
import { REFERENCE } from "../test/suites/reference-codec.js";
import { loadVectors } from "../test/vectors/load.js";

const CHECKS_PER_TEST = 2;

const vectors = loadVectors();
const groups = new Map<string, ReturnType<typeof goldenChecks>>();
for (const check of [...goldenChecks(vectors, REFERENCE), ...nonFiniteChecks(vectors)]) {
  const name = `${check.subject} ${check.kind}`;
  groups.set(name, [...(groups.get(name) ?? []), check]);
}

describe("golden set", () => {
  for (const [name, checks] of groups) {
    for (let at = 0; at < checks.length; at += CHECKS_PER_TEST) {
      test(`${name} from ${at}`, async () => {
        for (const check of checks.slice(at, at + CHECKS_PER_TEST)) {
          expect(await check.run(REFERENCE), check.id).toBeUndefined();
        }
      });
    }
  }
});
