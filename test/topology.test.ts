/** Topology files: what they say, the catalogue of malformed ones, and valid ones with characters missing or changed. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { WeightSpec } from "../src/backends/program.js";
import { isIsqError } from "../src/errors.js";
import { parseTopology } from "../src/files/topology.js";
import { readTopologyFile, reference, TextModelBuilder } from "../src/index.js";
import { compileModel } from "../src/model/architectures/index.js";
import { parseConfig } from "../src/model/config.js";
import { type Plan, type PlanRequest, plan } from "../src/plan.js";
import { formatPlan } from "../src/report/plan-text.js";
import { checkTopology, type TopologyRule } from "../src/topology.js";
import { expectBounded } from "./suites/bounded.js";

const FOLDER = "test/malformed/topology";
const MODEL = "models/tiny-mistral";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));

const program = compileModel(
  parseConfig(
    JSON.stringify({
      architectures: ["LlamaForCausalLM"],
      hidden_size: 256,
      intermediate_size: 96,
      num_hidden_layers: 8,
      num_attention_heads: 4,
      vocab_size: 256,
      max_position_embeddings: 128,
    }),
  ),
);

function decide(topology: readonly TopologyRule[], request: Partial<PlanRequest> = {}): Plan {
  const sourceOf = ({ name, shape }: WeightSpec) => ({ name, type: "BF16" as const, shape });
  return plan(program, sourceOf, { type: "Q5K", ...request, topology });
}

const layer = (index: number, part = "self_attn.q_proj") => `model.layers.${index}.${part}.weight`;
const rowOf = ({ rows }: Plan, name: string) => {
  const row = rows.find(({ tensor }) => tensor === name);
  if (!row) throw new Error(`no ${name}`);
  return row;
};
const typesOf = (decided: Plan, part?: string) =>
  [0, 1, 2, 3, 4, 5, 6, 7].map((i) => rowOf(decided, layer(i, part)).type);

describe("what a file says", () => {
  test("gaps, overlaps, none, inheritance, embeddings and the head", () => {
    const rules = parseTopology(`
0-3: { isq: Q2K }
2-5: { isq: Q6K }
4:
  device: cpu
7: { isq: none }
/^model\\.embed_tokens/: { isq: Q8_0 }
/^lm_head\\./: { isq: Q6K }
/layers\\.[01]\\.self_attn\\.v/: { isq: Q3K }
`);
    const decided = decide(rules);
    expect(typesOf(decided)).toEqual(["Q2K", "Q2K", "Q6K", "Q6K", "Q5K", "Q5K", "Q5K", "BF16"]);
    expect(typesOf(decided, "self_attn.v_proj").slice(0, 3)).toEqual(["Q3K", "Q3K", "Q6K"]);
    expect(rowOf(decided, "model.embed_tokens.weight").type).toBe("Q8_0");
    expect(rowOf(decided, "lm_head.weight").type).toBe("Q6K");
    expect(rowOf(decided, layer(4))).toMatchObject({ rule: 2, overruled: [1], device: "cpu" });
    expect(rowOf(decided, layer(0, "self_attn.v_proj"))).toMatchObject({ rule: 6, overruled: [0] });
    expect(rowOf(decided, layer(5))).toMatchObject({ rule: null, overruled: [], device: null });
    expect(decided.unusedRules).toEqual([]);
  });

  test("without --isq only what rules name is quantized", () => {
    const decided = decide(parseTopology("0-2: {isq: Q4_0}\n2-4: {}"), { type: null });
    expect(typesOf(decided).slice(0, 4)).toEqual(["Q4_0", "Q4_0", "BF16", "BF16"]);
  });

  test("a device goes for every tensor of its layers, norms too; a type does not", () => {
    const norm = "input_layernorm";
    const decided = decide(parseTopology("0: {isq: Q4_0, device: cpu}\n1: {isq: Q4_0}"));
    expect(rowOf(decided, layer(0, norm))).toMatchObject({ type: "BF16", rule: 0, device: "cpu" });
    expect(rowOf(decided, layer(1, norm))).toMatchObject({ type: "BF16", rule: null, device: null });
  });

  test.each(["Q4K", "none"])("of two rules of one kind the later decides for what both cover (%s)", (isq) => {
    const bounds = fc
      .tuple(fc.nat(7), fc.nat(7))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b) + 1] as const);
    fc.assert(
      fc.property(fc.array(bounds, { maxLength: 5 }), (ranges) => {
        const types = ["Q2K", "Q3K", isq, "Q6K", "Q8_0"];
        const text = ranges.map(([a, b], i) => `${"0".repeat(i)}${a}-${b}: {isq: ${types[i]}}\n`).join("");
        const decided = decide(ranges.length === 0 ? [] : parseTopology(text));
        const wanted = Array.from({ length: 8 }, (_, at) => {
          const winner = ranges.findLastIndex(([a, b]) => a <= at && at < b);
          return winner < 0 ? "Q5K" : types[winner] === "none" ? "BF16" : types[winner];
        });
        expect(typesOf(decided)).toEqual(wanted);
      }),
      { numRuns: 100, seed: 3 },
    );
  });

  test("errors name file, line and selector", () => {
    expect(() => parseTopology("# first\n0-4:\n  isq: Q4K\n5:\n  isq: Q9K\n", "my.yml")).toThrowError(
      expect.objectContaining({
        tag: "type/unknown",
        message: expect.stringMatching(/^my\.yml:4: unknown type "Q9K"/),
        details: expect.objectContaining({ file: "my.yml", line: 4, selector: "5" }),
      }),
    );
  });
});

describe("rules from code", () => {
  test.each<[string, TopologyRule, string]>([
    ["neither layers nor a pattern", { isq: "Q4K" }, "topology/selector"],
    ["both", { layers: { start: 0, end: 1 }, pattern: /a/ }, "topology/selector"],
    ["layers beyond the model", { layers: { start: 0, end: 9 } }, "topology/layers"],
    ["half a layer", { layers: { start: 0.5, end: 1 } }, "topology/layers"],
    ["a RegExp that remembers", { pattern: /a/g }, "topology/pattern"],
    ["an unknown type", { pattern: /a/, isq: "Q9" as "Q4K" }, "type/unknown"],
    ["an unknown device", { pattern: /a/, device: "cuda[0]" as "cpu" }, "topology/device"],
  ])("%s", (_what, rule, tag) => {
    expect(() => checkTopology([rule], 8)).toThrowError(expect.objectContaining({ tag }));
    expect(() => decide([rule])).toThrowError(expect.objectContaining({ tag }));
  });
});

describe("the builder", () => {
  const file = (text: string) => new Blob([text]);

  test("takes a path or a Blob; the last way of giving rules counts", async () => {
    const path = `${FOLDER}/t5-two-rules.yml`;
    const byPath = await new TextModelBuilder(MODEL).withIsq("Q4K").withTopologyFile(path).plan();
    const blob = file(readFileSync(path, "utf8"));
    const byBlob = await new TextModelBuilder(MODEL)
      .withTopology([])
      .withIsq("Q4K")
      .withTopologyFile(blob)
      .plan();
    expect(byPath.hash).toBe(byBlob.hash);
    expect(rowOf(byPath, layer(0)).type).toBe("Q8_0");
    const byCode = await new TextModelBuilder(MODEL)
      .withTopologyFile(path)
      .withTopology([])
      .withIsq("Q4K")
      .plan();
    expect(rowOf(byCode, layer(0)).type).toBe("Q4K");
  });

  test("rules stay in force at re-ISQ, also one that equalled the default", async () => {
    const model = await new TextModelBuilder(MODEL)
      .withBackend(reference())
      .withIsq("Q4_0")
      .withTopologyFile(file("0: {isq: Q4_0}\n1: {}"))
      .build();
    await model.reIsq("Q8_0");
    expect(rowOf(model.plan, layer(0)).type).toBe("Q4_0");
    expect(rowOf(model.plan, layer(1)).type).toBe("Q8_0");
    await model.dispose();
  });

  test("a device that is not there is refused by name before any weight is read", async () => {
    const build = (device: string) =>
      new TextModelBuilder(MODEL)
        .withBackend(reference())
        .withTopologyFile(file(`1: {device: "${device}"}`))
        .build();
    await expect(build("webgpu[99]")).rejects.toMatchObject({
      tag: "backend/unavailable",
      details: { value: 99 },
    });
    await (await build("cpu")).dispose();
  });
});

/** Reads a file of the catalogue and plans with it. */
async function readCase(name: string, request: Partial<PlanRequest> = {}): Promise<Plan> {
  return decide(await readTopologyFile(`${FOLDER}/${name}`), request);
}

describe("the malformed catalogue", () => {
  test.each(Object.entries(expected))("%s: %s", async (name, tag) => {
    await expectBounded(5, async () => {
      if (tag === "ok") await expect(readCase(name)).resolves.toBeDefined();
      else await expect(readCase(name)).rejects.toMatchObject({ name: "IsqError", tag });
    });
  });

  test("what is legal and odd is told in the plan", async () => {
    const nothing = await readCase("t4-matches-nothing.yml");
    expect(nothing.unusedRules).toEqual([0]);
    expect(formatPlan(nothing)).toContain("topology rule 1 decides for no tensor");
    expect((await readCase("t4-matches-norms-only.yml")).unusedRules).toEqual([0]);
    const two = await readCase("t5-two-rules.yml");
    expect(rowOf(two, layer(0))).toMatchObject({ type: "Q8_0", rule: 1, overruled: [0] });
    expect(two.unusedRules).toEqual([0]);
    expect(formatPlan(two)).toContain("topology rule 1 is overruled for 8 tensors");
    expect(rowOf(await readCase("t6-equals-default.yml"), layer(0))).toMatchObject({ type: "Q5K", rule: 0 });
    const width = rowOf(await readCase("t8-width.yml"), layer(0, "mlp.down_proj"));
    expect(width).toMatchObject({ requested: "Q6K", type: "Q5_1", substituted: true });
    await expect(readCase("t8-width.yml", { strict: true })).rejects.toMatchObject({ tag: "plan/strict" });
    expect(rowOf(await readCase("t7-webgpu.yml"), layer(0)).device).toBe("webgpu[1]");
  });
});

describe("hostile text", () => {
  const text = `0-3: { isq: Q2K }\n2-5: # overlap\n  isq: Q6K\n  device: cpu\n"7": {isq: none}\n/^lm_(head|x)+\\./: { isq: Q8_0 }\n`;
  const survive = (hostile: string): "value" | "refused" => {
    try {
      decide(parseTopology(hostile, "hostile"));
      return "value";
    } catch (error) {
      if (!isIsqError(error)) throw error;
      return "refused";
    }
  };

  test("cut at every character", () => {
    expect(survive(text)).toBe("value");
    const results = Array.from(text, (_, end) => survive(text.slice(0, end)));
    expect(new Set(results)).toEqual(new Set(["value", "refused"]));
  });

  test("characters changed, taken out or put in", () => {
    const character = fc.constantFrom(..."{}[]\":,.\\/-?*&!|>%@`#'0as \t\n\r\0\u{85}\u{2028}\ufeff\ud800");
    const edit = fc.record({
      at: fc.nat(text.length - 1),
      remove: fc.nat(3),
      insert: fc.string({ unit: character, maxLength: 3 }),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        let changed = text;
        for (const { at, remove, insert } of edits)
          changed = changed.slice(0, at) + insert + changed.slice(at + remove);
        survive(changed);
      }),
      { numRuns: 3000, seed: 22 },
    );
  });

  test("32 kB of anything takes little time", () => {
    const fill = (unit: string) => unit.repeat(32_768 / unit.length);
    for (const unit of [
      "[",
      "- ",
      "? ",
      "{a: ",
      "- [? ",
      " \n",
      "a: ",
      "&a ",
      "*a ",
      '"',
      "'",
      "!",
      "|\n ",
      "\t",
      "#",
      "0: {}\n",
      "-\n",
      "\r",
    ]) {
      expectBounded(10, () => survive(fill(unit)), JSON.stringify(unit));
    }
  });
});
