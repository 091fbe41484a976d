import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { createStopper } from "../../src/model/stops.js";
import { SEED } from "../suites/rows.js";

describe("stop strings", () => {
  test("end the text at the first that is complete, however the text is cut", () => {
    const character = fc.constantFrom("a", "b", "\n");
    const stops = fc.array(fc.string({ unit: character, minLength: 1, maxLength: 4 }), { maxLength: 3 });
    const pieces = fc.array(fc.string({ unit: character, maxLength: 5 }), { maxLength: 12 });
    fc.assert(
      fc.property(stops, pieces, (stop, parts) => {
        const stopper = createStopper(stop);
        let out = "";
        for (const part of parts) {
          if (!stopper.stopped) out += stopper.push(part);
        }
        const whole = parts.join("");
        const lengths = Array.from(whole, (_, i) => i + 1);
        const end = lengths.find((length) => stop.some((string) => whole.slice(0, length).endsWith(string)));
        expect(stopper.stopped).toBe(end !== undefined);
        const read = whole.slice(0, end);
        const longest = Math.max(
          0,
          ...stop.filter((string) => read.endsWith(string)).map(({ length }) => length),
        );
        expect(out + stopper.flush()).toBe(end === undefined ? whole : read.slice(0, end - longest));
      }),
      { seed: SEED, numRuns: 2000 },
    );
  });

  test("only what may belong to one is held back", () => {
    const stopper = createStopper(["END"]);
    expect(stopper.push("the E")).toBe("the ");
    expect(stopper.push("N")).toBe("");
    expect(stopper.push("O")).toBe("ENO");
    expect(stopper.push("E")).toBe("");
    expect(stopper.flush()).toBe("E");
  });

  test.each([
    ["an empty one", [""]],
    ["too many", new Array(17).fill("x")],
    ["a long one", ["x".repeat(1025)]],
  ])("%s is refused", (_what, stops) => {
    try {
      createStopper(stops);
      expect.unreachable();
    } catch (error) {
      expect(isIsqError(error, "option/invalid") && error.details.field).toBe("stop");
    }
  });
});
