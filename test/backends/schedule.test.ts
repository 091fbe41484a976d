import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Op, Program, Slot } from "../../src/backends/program.js";
import { columnsOf, makeSchedule } from "../../src/backends/schedule.js";
import { compileModel } from "../../src/model/architectures/index.js";
import { parseConfig } from "../../src/model/config.js";
import { readConfig } from "../fixtures/architecture.js";

const FIXTURES = readdirSync(new URL("../fixtures/architectures", import.meta.url));

/** Slots whose columns of other members an operation looks at; those where it stays in its own; those it writes. */
function usesOf(op: Op): { others: Slot[]; own: Slot[]; written: Slot[] } {
  switch (op.kind) {
    case "embed":
      return { others: [], own: [], written: [op.out] };
    case "rmsNorm":
      return op.x === op.out
        ? { others: [], own: [op.x], written: [op.out] }
        : { others: [op.x], own: [], written: [op.out] };
    case "layerNorm":
    case "linear":
    case "copy":
    case "select":
      return { others: [op.x], own: [], written: [op.out] };
    case "rope":
      return { others: [], own: [op.x], written: [op.x] };
    case "attention":
      return { others: [], own: [op.q, op.k, op.v], written: [op.out] };
    case "gate":
      return { others: [], own: [op.gate, op.up], written: [op.out] };
    case "add":
      return { others: [], own: [op.a, op.b], written: [op.out] };
    case "activate":
    case "scale":
    case "softcap":
      return { others: [], own: [op.x], written: [op.out] };
    case "route":
      return { others: [op.x], own: [], written: [op.chosen, op.weights] };
    case "expertLinear":
      return { others: [op.x, op.chosen], own: [], written: [op.out] };
    case "combine":
      return { others: [op.weights], own: [op.x], written: [op.out] };
  }
}

async function compile(name: string): Promise<Program> {
  return compileModel(parseConfig(JSON.stringify(await readConfig(name))));
}

describe.each(FIXTURES)("%s", (name) => {
  test.each([2, 3, 5])("%i members never read what another has not finished", async (members) => {
    const program = await compile(name);
    const schedule = makeSchedule(program, members);
    const written = program.slots.map(() => -1);
    const read = program.slots.map(() => -1);
    let meetings = 0;
    for (const { op, barrier } of schedule.ops) {
      if (barrier) meetings++;
      const uses = usesOf(op);
      for (const slot of uses.others.filter((slot) => schedule.shared[slot])) {
        expect(written[slot]).toBeLessThan(meetings);
        read[slot] = meetings;
      }
      for (const slot of uses.written.filter((slot) => schedule.shared[slot])) {
        expect(read[slot]).toBeLessThan(meetings);
        written[slot] = meetings;
      }
    }
    expect(meetings).toBeLessThanOrEqual(schedule.ops.length / 2);
  });

  test.each([2, 3, 5])(
    "%i members own the same heads or columns of all that goes together",
    async (members) => {
      const program = await compile(name);
      const schedule = makeSchedule(program, members);
      for (const { op } of schedule.ops) {
        const { own, written } = usesOf(op);
        const shared = [...own, ...written].filter((slot) => own.length > 0 && schedule.shared[slot]);
        for (let index = 0; index < members; index++) {
          const part = { index, count: members };
          const shares = shared.map((slot) => {
            // Attention has heads of several widths: what counts is which heads.
            const unit = op.kind === "attention" ? program.slots[slot].width / op.kvHeads : 1;
            return columnsOf(program, schedule, slot, part)
              .map((column) => column / unit)
              .join();
          });
          expect(new Set(shares).size).toBeLessThanOrEqual(1);
        }
      }
    },
  );
});
