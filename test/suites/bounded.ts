/** Bounded work, for input that must not hang a reader: in processor time, which other load on a machine hardly lengthens. */

import { expect } from "vitest";
import { processorSeconds } from "./processor-time.js";

/** Runs `work` and fails when it took more than `seconds` of processor time. */
export function expectBounded<Result>(seconds: number, work: () => Result, what?: string): Result {
  const started = processorSeconds();
  const check = () => expect(processorSeconds() - started, what).toBeLessThan(seconds);
  const result = work();
  if (result instanceof Promise) return result.finally(check) as Result;
  check();
  return result;
}
