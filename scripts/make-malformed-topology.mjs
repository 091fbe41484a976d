// Writes test/malformed/topology/: one small file for each way a topology can be wrong, and expected.json with the error tag
// of each, for a model with eight layers. Kinds T1 … T8 group them: YAML, ranges, patterns, patterns that match nothing, two
// rules for one tensor, rules that equal the default, unknown types, types that do not suit a tensor. `ok` marks files that
// look wrong and are legal; what the plan says about them is tested beside the catalogue.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../test/malformed/topology/", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};

function write(name, tag, content) {
  expected[`${name}.yml`] = tag;
  writeFileSync(`${folder}${name}.yml`, content);
}

const rule = "  isq: Q4K\n";
const yaml = "topology/yaml";
const levels = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}, *a${i}]\n`);
write("t1-empty", "topology/field", "");
write("t1-comment-only", "topology/field", "# nothing\n");
write("t1-no-rules", yaml, "{}\n");
write("t1-list", "topology/field", "- 0-4\n");
write("t1-scalar", "topology/field", "Q4K\n");
write("t1-not-utf8", yaml, Uint8Array.of(0x30, 0x3a, 0xff, 0xfe));
write("t1-alias-bomb", yaml, `a0: &a0 {isq: Q4K}\n${levels.join("")}`);
write("t1-anchor", yaml, `0: &x\n${rule}`);
write("t1-alias", yaml, `0: &x\n${rule}1: *x\n`);
write("t1-merge-key", yaml, `0:\n  <<: {isq: Q4K}\n`);
write("t1-duplicate-rule", yaml, `0-4:\n${rule}0-4:\n${rule}`);
write("t1-duplicate-quoted", yaml, `0-4:\n${rule}"0-4":\n${rule}`);
write("t1-duplicate-field", yaml, `0-4:\n${rule}${rule}`);
write("t1-tab", yaml, "0-4:\n\tisq: Q4K\n");
write("t1-tag", yaml, `0: !!map\n${rule}`);
write("t1-tag-value", yaml, "0:\n  isq: !!str Q4K\n");
write("t1-unclosed", yaml, "0: {isq: Q4K\n");
write("t1-two-documents", yaml, `0:\n${rule}---\n1:\n${rule}`);
write("t1-nested-30000", yaml, "[".repeat(30_000));
write("t1-nested-maps", yaml, "{a: ".repeat(8_000));
write("t1-too-long", "source/range", `0:\n${rule}${"#\n".repeat(40_000)}`);
write("t1-list-as-key", yaml, `? [a]\n:\n${rule}`);
write("t1-value-list", yaml, "0:\n  isq: [Q4K]\n");
write("t1-value-missing", "topology/field", "0:\n  isq:\n");
write("t1-rule-missing", "topology/field", "0:\n");
write("t1-rule-scalar", "topology/field", "0: Q4K\n");
write("t1-unknown-field", "topology/field", "0:\n  isqq: Q4K\n");
write("t1-proto", "topology/field", "0:\n  __proto__: Q4K\n");
write("t1-many-rules", yaml, Array.from({ length: 1001 }, (_, i) => `${i}: {}\n`).join(""));
write("t1-crlf", "ok", "0-4:\r\n  isq: Q4K\r\n");
write("t1-json", "ok", '{"0-4": {"isq": "Q4K", "device": "cpu"}}');
write("t1-empty-rule", "ok", "0-4: {}\n");
write("t2-reversed", "topology/layers", `4-2:\n${rule}`);
write("t2-nothing", "topology/layers", `4-4:\n${rule}`);
write("t2-beyond", "topology/layers", `4-9:\n${rule}`);
write("t2-layer-beyond", "topology/layers", `8:\n${rule}`);
write("t2-huge", "topology/layers", `0-999999999:\n${rule}`);
write("t2-too-huge", "topology/selector", `0-99999999999999999999:\n${rule}`);
write("t2-negative", "topology/selector", `-1:\n${rule}`);
write("t2-fraction", "topology/selector", `1.5:\n${rule}`);
write("t2-open", "topology/selector", `4-:\n${rule}`);
write("t2-spaces", "topology/selector", `0 - 4:\n${rule}`);
write("t2-word", "topology/selector", `lm_head:\n${rule}`);
write("t2-bare-index", "ok", `7:\n${rule}`);
write("t2-quoted-index", "ok", `"7":\n${rule}`);
write("t2-overlap-and-gap", "ok", "0-4:\n  isq: Q4K\n2-6:\n  isq: Q6K\n");
write("t3-backtracking", "ok", `/(q_proj|a+)+$/:\n${rule}`);
write("t3-too-long", "topology/pattern", `/${"a".repeat(513)}/:\n${rule}`);
write("t3-too-many-states", "topology/pattern", `/((a{99}){99}){99}/:\n${rule}`);
write("t3-empty-repetitions", "topology/pattern", `"/((((){999}){999}){999}){999}/":\n${rule}`);
write("t3-look-ahead", "topology/pattern", `"/(?=q_proj)/":\n${rule}`);
write("t3-back-reference", "topology/pattern", `/(a)\\1/:\n${rule}`);
write("t3-unclosed", "topology/pattern", `/(q_proj/:\n${rule}`);
write("t3-repeats-nothing", "topology/pattern", `/*_proj/:\n${rule}`);
write("t3-deep", "topology/pattern", `"/${"(".repeat(200)}a${")".repeat(200)}/":\n${rule}`);
write("t3-no-end", "topology/selector", `/q_proj:\n${rule}`);
write("t3-empty", "topology/selector", `//:\n${rule}`);
write("t4-matches-nothing", "ok", `/no_such_tensor/:\n${rule}`);
write("t4-matches-norms-only", "ok", `/norm/:\n${rule}`);
write("t5-two-rules", "ok", "/q_proj/:\n  isq: Q4K\n/self_attn/:\n  isq: Q8_0\n");
write("t6-equals-default", "ok", "0-4:\n  isq: Q5K\n");
write("t7-unknown-type", "type/unknown", "0:\n  isq: Q9K\n");
write("t7-number", "type/unknown", "0:\n  isq: 4\n");
write("t7-null", "type/unknown", "0:\n  isq: null\n");
write("t7-constructor", "type/unknown", "0:\n  isq: constructor\n");
write("t7-none", "ok", "0:\n  isq: none\n");
write("t7-case", "ok", "0:\n  isq: q4_k\n");
write("t7-cuda", "topology/device", "0:\n  device: cuda[0]\n");
write("t7-metal", "topology/device", "0:\n  device: metal[0]\n");
write("t7-webgpu-bare-bracket", "topology/device", "0:\n  device: webgpu[]\n");
write("t7-webgpu", "ok", "0:\n  device: webgpu[1]\n");
write("t8-width", "ok", "/down_proj/:\n  isq: Q6K\n");

writeFileSync(`${folder}expected.json`, `${JSON.stringify(expected, null, 2)}\n`);
