/** Types proposed for a size: against every possible choice, and as a topology file that means what was chosen. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { WeightSpec } from "../src/backends/program.js";
import { parseTopology } from "../src/files/topology.js";
import { plan } from "../src/plan.js";
import { formatTopology, lowerHull, type ModelPart, type PartOption, proposeTypes } from "../src/propose.js";
import { TYPE_NAMES } from "../src/quants/index.js";

const option = (bits: number, divergence: number, type: PartOption["type"] = "Q4K"): PartOption => ({
  type,
  bits,
  divergence,
});
const partOf = (options: readonly PartOption[], name = "part"): ModelPart => ({
  name,
  tensors: [name],
  layer: null,
  elements: 100,
  options,
});

describe("choosing", () => {
  const anyOption = fc.record({
    bits: fc.integer({ min: 0, max: 50 }),
    divergence: fc.integer({ min: 0, max: 99 }),
  });
  const anyParts = fc.array(fc.array(anyOption, { minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 4,
  });

  test("stays within the budget, and what it could still gain is less than one step", () => {
    const property = fc.property(anyParts, fc.integer({ min: 0, max: 250 }), (lists, budget) => {
      const parts = lists.map((list) => partOf(list.map(({ bits, divergence }) => option(bits, divergence))));
      const least = parts.reduce((sum, { options }) => sum + Math.min(...options.map(({ bits }) => bits)), 0);
      const elements = 10;
      const request = { targetBits: (budget + 3) / elements, elements, fixedBits: 3 };
      if (least > budget) {
        expect(() => proposeTypes(parts, request)).toThrowError(
          expect.objectContaining({
            tag: "option/invalid",
            details: expect.objectContaining({ limit: (least + 3) / 10 }),
          }),
        );
        return;
      }
      const proposal = proposeTypes(parts, request);
      const bits = proposal.parts.reduce((sum, chosen) => sum + chosen.bits, 0);
      expect(bits).toBeLessThanOrEqual(budget);
      expect(proposal.bitsPerWeight).toBe((bits + 3) / elements);
      expect(proposal.predicted).toBe(proposal.parts.reduce((sum, { divergence }) => sum + divergence, 0));
      for (const [i, chosen] of proposal.parts.entries()) {
        expect(parts[i].options).toContainEqual(option(chosen.bits, chosen.divergence));
      }
      // The best of all choices is at most one step of one curve better.
      const steps = parts.flatMap(({ options }) => {
        const hull = lowerHull(options);
        return hull.slice(1).map((to, i) => hull[i].divergence - to.divergence);
      });
      expect(proposal.predicted).toBeLessThanOrEqual(best(parts, budget) + Math.max(0, ...steps));
    });
    fc.assert(property, { numRuns: 2000 });
  });

  /** The least divergence of all choices that fit. */
  function best(parts: readonly ModelPart[], budget: number): number {
    if (budget < 0) return Number.POSITIVE_INFINITY;
    const [first, ...rest] = parts;
    if (!first) return 0;
    return Math.min(...first.options.map(({ bits, divergence }) => divergence + best(rest, budget - bits)));
  }

  test("what is larger and no better is never taken, nor what a mix of two others beats", () => {
    const options = [
      option(10, 9),
      option(20, 9),
      option(20, 8),
      option(30, 1),
      option(40, 2),
      option(50, 0),
    ];
    expect(lowerHull(options)).toEqual([option(10, 9), option(30, 1), option(50, 0)]);
    expect(lowerHull([option(5, 7), option(5, 3)])).toEqual([option(5, 3)]);
    const tied = [option(0, 0, null), option(30, 4)]; // a head that shares its data costs nothing as it is
    expect(
      proposeTypes([partOf(tied)], { targetBits: 9, elements: 10, fixedBits: 0 }).parts[0].type,
    ).toBeNull();
  });

  test("spends the bits where they help most", () => {
    const parts = [
      partOf([option(2, 1, "Q2K"), option(4, 0.1, "Q4K")], "a"),
      partOf([option(2, 9, "Q2K"), option(4, 0.2, "Q4K")], "b"),
    ];
    const { parts: chosen } = proposeTypes(parts, { targetBits: 6, elements: 1, fixedBits: 0 });
    expect(chosen.map(({ type }) => type)).toEqual(["Q2K", "Q4K"]);
  });
});

describe("the topology file", () => {
  const names = [
    "model.embed_tokens.weight",
    ...Array.from({ length: 130 }, (_, l) => [
      `model.layers.${l}.self_attn.q_proj.weight`,
      `model.layers.${l}.mlp.experts.0.up_proj.weight`,
      `model.layers.${l}.mlp.experts.1.up_proj.weight`,
    ]).flat(),
    "lm_head.weight",
  ];
  const weights: WeightSpec[] = names.map((name) => ({
    name,
    shape: [32, 256],
    role: name.includes("embed") ? "embedding" : "linear",
    layer: /layers/.test(name) ? Number(name.split(".")[2]) : null,
  }));

  test("gives every tensor the type that was chosen, whatever --isq says", () => {
    const typeOf = (i: number) => (i % 17 === 3 ? null : TYPE_NAMES[i % TYPE_NAMES.length]);
    const groups = new Map<string, WeightSpec[]>();
    for (const weight of weights) {
      const name = weight.name.replace(/experts\.\d\./, "experts.*.");
      groups.set(name, [...(groups.get(name) ?? []), weight]);
    }
    const wanted = new Map<string, string>();
    const parts = [...groups].map(([name, members], i) => {
      for (const { name } of members) wanted.set(name, typeOf(i) ?? "BF16");
      const part = { ...partOf([], name), layer: members[0].layer };
      return { part, ...option(1, 1, typeOf(i)) };
    });
    const text = formatTopology({ parts, bitsPerWeight: 4, predicted: 1 }, ["a comment\nof two lines"]);
    expect(text.startsWith("# a comment of two lines\n")).toBe(true);
    const program = { weights } as unknown as Parameters<typeof plan>[0];
    const sourceOf = ({ name, shape }: WeightSpec) => ({ name, type: "BF16" as const, shape });
    const { rows, unusedRules } = plan(program, sourceOf, { type: "Q8_0", topology: parseTopology(text) });
    expect(unusedRules).toEqual([]);
    expect(new Map(rows.map(({ tensor, type }) => [tensor, type]))).toEqual(wanted);
  });
});
