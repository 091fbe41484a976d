// What test files import as "fast-check" under mutation: the first rounds of each property, and no search for a smaller
// counterexample, which would take hundreds of rounds for every mutant that is found.
import fc from "fast-check";

const ROUNDS = 25;

const shorten = (options) => ({
  ...options,
  numRuns: Math.min(options?.numRuns ?? 100, ROUNDS),
  endOnFailure: true,
});

export default { ...fc, assert: (property, options) => fc.assert(property, shorten(options)) };
