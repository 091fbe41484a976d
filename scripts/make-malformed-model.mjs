// Makes test/malformed/gguf-model/: GGUF files that are well-formed and lie about their model. Kinds G19 to G22 of the
// catalogue: hyper-parameters, tokenizers, chat templates, blocks whose scales are no numbers. `expected.json` has the error
// that each must end with. Run after `npm run build`.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { layoutGguf, toBytes, writeGguf } from "../dist/files/gguf-write.js";

const folder = new URL("../test/malformed/gguf-model/", import.meta.url);
const text = (value) => ({ type: "string", value });
const u32 = (value) => ({ type: "u32", value });
const f32 = (value) => ({ type: "f32", value });
const list = (items, values) => ({ type: "array", items, values });

const LLAMA = {
  "general.architecture": text("llama"),
  "llama.vocab_size": u32(8),
  "llama.context_length": u32(64),
  "llama.embedding_length": u32(32),
  "llama.block_count": u32(1),
  "llama.feed_forward_length": u32(32),
  "llama.attention.head_count": u32(2),
  "llama.attention.head_count_kv": u32(2),
  "llama.attention.key_length": u32(16),
  "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
  "llama.rope.dimension_count": u32(16),
  "llama.rope.freq_base": f32(10000),
};
const llama = (changes) => ({ ...LLAMA, ...changes });
const named = (key, value) => llama({ [`llama.${key}`]: value });
const without = (key) => Object.fromEntries(Object.entries(LLAMA).filter(([name]) => name !== key));
const gemma = (changes) =>
  Object.fromEntries(
    Object.entries({ ...LLAMA, "llama.attention.sliding_window": u32(16), ...changes }).map(
      ([key, value]) => [
        key.replace(/^llama/, "gemma3"),
        key === "general.architecture" ? text("gemma3") : value,
      ],
    ),
  );

const TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "ab", "Ġ", "c"];
const BYTE_LEVEL = {
  "tokenizer.ggml.model": text("gpt2"),
  "tokenizer.ggml.pre": text("gpt-2"),
  "tokenizer.ggml.tokens": list("string", TOKENS),
  "tokenizer.ggml.token_type": list("i32", Int32Array.of(2, 3, 3, 1, 1, 1, 1, 1)),
  "tokenizer.ggml.merges": list("string", ["a b"]),
  "tokenizer.ggml.bos_token_id": u32(1),
};
const PIECES = {
  "tokenizer.ggml.model": text("llama"),
  "tokenizer.ggml.tokens": list("string", ["<unk>", "<s>", "</s>", "<0x61>", "a", "b", "ab", "▁"]),
  "tokenizer.ggml.scores": list("f32", Float32Array.of(0, 0, 0, 0, -9, -9, -1, -9)),
  "tokenizer.ggml.token_type": list("i32", Int32Array.of(2, 3, 3, 6, 1, 1, 1, 1)),
};
const template = (source) => ({ ...BYTE_LEVEL, "tokenizer.chat_template": text(source) });
const tokens = (base, at, token) =>
  list(
    "string",
    base["tokenizer.ggml.tokens"].values.map((own, i) => (i === at ? token : own)),
  );

/** [file, error tag, metadata, tensors]. */
const CASES = [
  ["g19-good", "ok", LLAMA],
  ["g19-architecture-missing", "gguf/metadata", without("general.architecture")],
  ["g19-architecture-unknown", "architecture/unknown", llama({ "general.architecture": text("no-such") })],
  ["g19-architecture-a-number", "gguf/metadata", llama({ "general.architecture": u32(1) })],
  ["g19-blocks-0", "config/invalid", named("block_count", u32(0))],
  ["g19-blocks-10001", "config/invalid", named("block_count", u32(10_001))],
  ["g19-blocks-2-31", "config/invalid", named("block_count", u32(2 ** 31))],
  ["g19-blocks-2-31-of-gemma3", "config/invalid", gemma({ "llama.block_count": u32(2 ** 31) })],
  ["g19-blocks-text", "gguf/metadata", named("block_count", text("1"))],
  ["g19-blocks-missing", "gguf/metadata", without("llama.block_count")],
  ["g19-heads-0", "config/invalid", named("attention.head_count", u32(0))],
  ["g19-heads-that-share-unevenly", "config/invalid", named("attention.head_count_kv", u32(3))],
  ["g19-context-0", "config/invalid", named("context_length", u32(0))],
  ["g19-width-2-32", "config/invalid", named("embedding_length", { type: "u64", value: 2n ** 32n })],
  ["g19-rotary-above-head", "gguf/metadata", named("rope.dimension_count", u32(32))],
  ["g19-rotary-odd", "config/invalid", named("rope.dimension_count", u32(7))],
  ["g19-epsilon-nan", "gguf/metadata", named("attention.layer_norm_rms_epsilon", f32(Number.NaN))],
  ["g19-base-0", "config/invalid", named("rope.freq_base", f32(0))],
  ["g19-scaling-unknown", "gguf/metadata", named("rope.scaling.type", text("magic"))],
  ["g19-experts-2-31", "config/invalid", named("expert_count", u32(2 ** 31))],
  [
    "g19-pattern-of-other-length",
    "gguf/metadata",
    gemma({ "llama.attention.sliding_window_pattern": list("bool", Uint8Array.of(1, 0)) }),
  ],
  ["g20-good", "ok", BYTE_LEVEL],
  ["g20-good-pieces", "ok", PIECES],
  ["g20-model-unknown", "tokenizer/invalid", { ...BYTE_LEVEL, "tokenizer.ggml.model": text("magic") }],
  ["g20-cut-unknown", "tokenizer/invalid", { ...BYTE_LEVEL, "tokenizer.ggml.pre": text("magic") }],
  ["g20-byte-minus-1", "gguf/metadata", { ...PIECES, "tokenizer.ggml.tokens": tokens(PIECES, 3, "<0x-1>") }],
  ["g20-byte-zz", "gguf/metadata", { ...PIECES, "tokenizer.ggml.tokens": tokens(PIECES, 3, "<0xZZ>") }],
  [
    "g20-scores-short",
    "gguf/metadata",
    { ...PIECES, "tokenizer.ggml.scores": list("f32", new Float32Array(7)) },
  ],
  [
    "g20-types-short",
    "gguf/metadata",
    { ...BYTE_LEVEL, "tokenizer.ggml.token_type": list("i32", new Int32Array(3)) },
  ],
  [
    "g20-tokens-numbers",
    "gguf/metadata",
    { ...BYTE_LEVEL, "tokenizer.ggml.tokens": list("u32", Uint32Array.of(1)) },
  ],
  ["g20-tokens-missing", "gguf/metadata", { "tokenizer.ggml.model": text("gpt2") }],
  ["g20-begin-out-of-range", "gguf/metadata", { ...BYTE_LEVEL, "tokenizer.ggml.bos_token_id": u32(8) }],
  ["g20-begin-text", "gguf/metadata", { ...BYTE_LEVEL, "tokenizer.ggml.bos_token_id": text("<s>") }],
  [
    "g20-merge-of-unknown",
    "gguf/metadata",
    { ...BYTE_LEVEL, "tokenizer.ggml.merges": list("string", ["a z"]) },
  ],
  ["g20-merge-of-one", "gguf/metadata", { ...BYTE_LEVEL, "tokenizer.ggml.merges": list("string", ["ab"]) }],
  ["g20-long-token", "ok", { ...PIECES, "tokenizer.ggml.tokens": tokens(PIECES, 6, "ab".repeat(20_000)) }],
  ["g20-proto-token", "ok", { ...BYTE_LEVEL, "tokenizer.ggml.tokens": tokens(BYTE_LEVEL, 7, "__proto__") }],
  ["g20-json-broken", "gguf/metadata", { ...BYTE_LEVEL, "tokenizer.huggingface.json": text("{") }],
  [
    "g20-json-of-other-kind",
    "tokenizer/invalid",
    { ...BYTE_LEVEL, "tokenizer.huggingface.json": text("[1]") },
  ],
  ["g21-good", "ok", template("{% for m in messages %}{{ m.content }}{% endfor %}")],
  ["g21-range-10-9", "tokenizer/invalid", template("{% for i in range(1000000000) %}{% endfor %}")],
  [
    "g21-loops-in-loops",
    "tokenizer/invalid",
    template(`{% set r = range(1000) %}${"{% for i in r %}".repeat(9)}${"{% endfor %}".repeat(9)}`),
  ],
  [
    "g21-macro-for-ever",
    "tokenizer/invalid",
    template("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"),
  ],
  [
    "g21-doubling",
    "tokenizer/invalid",
    template("{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"),
  ],
  [
    "g21-host-objects",
    "tokenizer/invalid",
    template("{{ messages.constructor.constructor('return process')().pid }}"),
  ],
  ["g21-not-a-template", "tokenizer/invalid", template("{% for %}")],
  ["g22-scale-nan", "values/non-finite", {}, [[0x00, 0x7e]]],
  ["g22-scale-infinite", "values/non-finite", {}, [[0x00, 0x7c]]],
  ["g22-scale-minus-infinite", "values/non-finite", {}, [[0x00, 0xfc]]],
  ["g22-scale-subnormal", "ok", {}, [[0x01, 0x00]]],
];

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};
for (const [name, tag, metadata, scales = []] of CASES) {
  const tensors = scales.map((scale, i) => ({
    name: `t${i}.weight`,
    type: "Q8_0",
    shape: [1, 32],
    data: Uint8Array.from({ length: 34 }, (_, at) => scale[at] ?? at),
  }));
  const layout = layoutGguf(new Map(Object.entries(metadata)), tensors);
  const sink = toBytes(layout.byteLength);
  await writeGguf(layout, (_, index) => tensors[index].data, sink);
  writeFileSync(new URL(`${name}.gguf`, folder), sink.bytes);
  expected[`${name}.gguf`] = tag;
}
writeFileSync(new URL("expected.json", folder), `${JSON.stringify(expected, null, 1)}\n`);
