// Writes test/malformed/imatrix/: one small file for each way an importance matrix can be wrong, in each of its four forms,
// and expected.json with the error tag of each. Kinds I1 … I9 group them: counts and lengths, no entries, widths, values,
// zeros, partial experts, duplicates, counts of 0, trailers. `ok` marks files that are read; what the plan says about their
// values is tested beside the catalogue.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../test/malformed/imatrix/", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};

const text = (value) => (typeof value === "string" ? new TextEncoder().encode(value) : value);
const i32 = (value) => new Uint8Array(Int32Array.of(value).buffer);
const u64 = (value) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const f32 = (values) => new Uint8Array(Float32Array.from(values).buffer);
const join = (...parts) => Uint8Array.from(parts.flat(Infinity).flatMap((part) => [...text(part)]));

function write(name, tag, ...parts) {
  expected[name] = tag;
  writeFileSync(`${folder}${name}`, join(...parts));
}

// The columns of every matrix in the tests' model.
const ONES = new Array(256).fill(1);
const q = "blk.0.attn_q.weight";
const entry = (
  name,
  values,
  calls = 2,
  { nameLength = text(name).length, valueCount = values.length } = {},
) => [i32(nameLength), name, i32(calls), i32(valueCount), f32(values)];
const trailer = [i32(7), i32(4), "text"];

write("i1-good.imatrix", "ok", i32(1), entry(q, ONES), trailer);
write("i1-empty.imatrix", "imatrix/truncated");
write("i1-three-bytes.imatrix", "imatrix/truncated", [Uint8Array.of(1, 0, 0)]);
write("i1-entries-negative.imatrix", "imatrix/count", i32(-1), entry(q, ONES));
write("i1-entries-huge.imatrix", "imatrix/count", i32(2 ** 31 - 1), entry(q, ONES));
write("i1-entries-one-more.imatrix", "imatrix/truncated", i32(2), entry(q, ONES));
write("i1-name-negative.imatrix", "imatrix/count", i32(1), entry(q, ONES, 2, { nameLength: -1 }));
write("i1-name-huge.imatrix", "imatrix/count", i32(1), entry(q, ONES, 2, { nameLength: 2 ** 31 - 1 }));
write("i1-name-past-end.imatrix", "imatrix/truncated", i32(1), entry(q, [1], 2, { nameLength: 4096 }));
write("i1-name-not-utf8.imatrix", "imatrix/name", i32(1), entry(Uint8Array.of(0xff, 0xfe), ONES));
write("i1-name-control.imatrix", "imatrix/name", i32(1), entry("a\x1b[2J", ONES));
write("i1-values-negative.imatrix", "imatrix/count", i32(1), entry(q, ONES, 2, { valueCount: -1 }));
write("i1-values-none.imatrix", "imatrix/count", i32(1), entry(q, []), new Uint8Array(64));
write("i1-values-huge.imatrix", "imatrix/truncated", i32(1), entry(q, ONES, 2, { valueCount: 2 ** 30 }));
write("i1-calls-negative.imatrix", "imatrix/count", i32(1), entry(q, ONES, -1));
write("i2-no-entries.imatrix", "imatrix/count", i32(0), i32(1), new Uint8Array(32));
write("i3-width.imatrix", "ok", i32(1), entry(q, [1, 2, 3]));
write("i4-nan.imatrix", "ok", i32(1), entry(q, [Number.NaN, ...ONES.slice(1)]));
write("i4-infinite.imatrix", "ok", i32(1), entry(q, [Number.POSITIVE_INFINITY, ...ONES.slice(1)]));
write("i4-negative.imatrix", "ok", i32(1), entry(q, [-1, ...ONES.slice(1)]));
write(
  "i5-zeros.imatrix",
  "ok",
  i32(1),
  entry(
    q,
    ONES.map(() => 0),
  ),
);
write("i7-duplicate.imatrix", "imatrix/duplicate", i32(2), entry(q, ONES), entry(q, ONES));
write("i7-proto.imatrix", "ok", i32(2), entry("__proto__", ONES), entry(q, ONES));
write("i8-calls-zero.imatrix", "ok", i32(1), entry(q, ONES, 0));
write("i9-no-trailer.imatrix", "ok", i32(1), entry(q, ONES));
write("i9-chunks-only.imatrix", "ok", i32(1), entry(q, ONES), i32(7));
write("i9-half-chunks.imatrix", "imatrix/truncated", i32(1), entry(q, ONES), [Uint8Array.of(7, 0)]);
write("i9-half-text.imatrix", "imatrix/truncated", i32(1), entry(q, ONES), i32(7), i32(4), "te");
write("i9-text-negative.imatrix", "imatrix/truncated", i32(1), entry(q, ONES), i32(7), i32(-4), "text");
write("i9-more.imatrix", "imatrix/trailing", i32(1), entry(q, ONES), trailer, "more");

const path = "model.layers.0.self_attn.q_proj";
const named = (name, values, { nameLength = text(name).length, valueCount = values.length } = {}) => [
  u64(nameLength),
  name,
  u64(valueCount),
  f32(values),
];
write("i1-good.cimatrix", "ok", u64(1), named(path, ONES));
write("i1-entries-2-64.cimatrix", "imatrix/count", u64(2n ** 64n - 1n), named(path, ONES));
write("i1-entries-2-31.cimatrix", "imatrix/count", u64(2 ** 31), named(path, ONES));
write("i1-name-2-64.cimatrix", "imatrix/count", u64(1), named(path, ONES, { nameLength: 2n ** 64n - 1n }));
write("i1-name-zero.cimatrix", "imatrix/count", u64(1), u64(0), "x", u64(1), f32([1]), f32([1]));
write("i1-values-2-62.cimatrix", "imatrix/count", u64(1), named(path, ONES, { valueCount: 2n ** 62n }));
write("i1-values-2-40.cimatrix", "imatrix/truncated", u64(1), named(path, ONES, { valueCount: 2n ** 40n }));
write("i1-values-none.cimatrix", "imatrix/count", u64(1), named(path, []), new Uint8Array(32));
write("i2-no-entries.cimatrix", "imatrix/count", u64(0), new Uint8Array(16));
write("i2-eight-zeros.cimatrix", "imatrix/count", u64(0));
write("i7-duplicate.cimatrix", "imatrix/duplicate", u64(2), named(path, ONES), named(path, ONES));
write("i9-more.cimatrix", "imatrix/trailing", u64(1), named(path, ONES), "m");

const numbered = (index, values, flag = 1, { valueCount = values.length } = {}) => [
  u64(index),
  Uint8Array.of(flag),
  flag === 0 ? [] : [u64(valueCount), f32(values)],
];
write("i1-good-v1.cimatrix", "ok", u64(2), numbered(0, [], 0), numbered(1, ONES));
write("i1-entries-v1.cimatrix", "imatrix/truncated", u64(3), numbered(0, [], 0), numbered(1, ONES));
write("i1-index-v1.cimatrix", "imatrix/count", u64(1), numbered(2 ** 40, ONES));
write("i1-flag-v1.cimatrix", "imatrix/value", u64(2), numbered(0, [], 0), numbered(1, ONES, 2));
write("i1-values-v1.cimatrix", "imatrix/truncated", u64(1), numbered(1, ONES, 1, { valueCount: 2n ** 40n }));
write("i3-width-v1.cimatrix", "imatrix/layers", u64(1), numbered(1, [1, 2, 3]));
write("i3-layers-v1.cimatrix", "imatrix/layers", u64(1), numbered(4000, ONES));
write("i4-nan-v1.cimatrix", "ok", u64(1), numbered(1, [Number.NaN, ...ONES.slice(1)]));
write("i7-duplicate-v1.cimatrix", "imatrix/duplicate", u64(2), numbered(1, ONES), numbered(1, ONES));
write("i9-more-v1.cimatrix", "imatrix/trailing", u64(1), numbered(1, ONES), "m");

const u32 = i32;
const string = (value) => [u64(text(value).length), value];
const pad = (bytes) => [bytes, new Uint8Array((32 - (bytes.length % 32)) % 32)];
const F32 = 0;
const F16 = 1;

/** A GGUF file: metadata entries as bytes, tensors as [name, dimensions (innermost first), values, type]. */
function gguf(keys, tensors) {
  let offset = 0;
  const infos = tensors.map(([name, dims, values, type = F32]) => {
    const info = [string(name), u32(dims.length), dims.map(u64), u32(type), u64(offset)];
    offset += pad(f32(values)).reduce((sum, part) => sum + part.length, 0);
    return info;
  });
  const head = join("GGUF", u32(3), u64(tensors.length), u64(keys.length), keys, infos);
  return [pad(head), tensors.map(([, , values]) => pad(f32(values)))];
}
const kind = [string("general.type"), u32(8), string("imatrix")];
const datasets = [string("imatrix.datasets"), u32(9), u32(8), u64(1), string("text")];
const chunks = [string("imatrix.chunk_count"), u32(4), u32(7)];
const keys = [kind, datasets, chunks];
const sums = (values, dims = [256]) => [`${q}.in_sum2`, dims, values];
const counts = (values, dims = [1]) => [`${q}.counts`, dims, values];

write("i1-good.gguf", "ok", gguf(keys, [sums(ONES), counts([2])]));
write("i1-magic-only.gguf", "gguf/truncated", "GGUF");
write("i1-model.gguf", "imatrix/tensor", gguf([], [sums(ONES), counts([2])]));
write(
  "i1-other-kind.gguf",
  "imatrix/tensor",
  gguf([[string("general.type"), u32(8), string("model")]], [sums(ONES)]),
);
write(
  "i1-datasets.gguf",
  "imatrix/tensor",
  gguf([kind, [string("imatrix.datasets"), u32(4), u32(1)]], [sums(ONES), counts([2])]),
);
write(
  "i1-chunks.gguf",
  "imatrix/tensor",
  gguf([kind, [string("imatrix.chunk_count"), u32(8), string("7")]], [sums(ONES), counts([2])]),
);
write("i1-other-tensor.gguf", "imatrix/tensor", gguf(keys, [sums(ONES), counts([2]), ["other", [1], [1]]]));
write("i1-no-counts.gguf", "imatrix/tensor", gguf(keys, [sums(ONES)]));
write("i1-no-sums.gguf", "imatrix/tensor", gguf(keys, [counts([2])]));
write("i1-half.gguf", "imatrix/tensor", gguf(keys, [[`${q}.in_sum2`, [512], ONES, F16], counts([2])]));
write("i2-no-entries.gguf", "imatrix/count", gguf(keys, []));
write("i3-more-counts.gguf", "imatrix/tensor", gguf(keys, [sums(ONES), counts([2, 2], [1, 2])]));
write("i3-no-columns.gguf", "imatrix/tensor", gguf(keys, [sums([], [0]), counts([2])]));
write("i3-width.gguf", "ok", gguf(keys, [sums([1, 2, 3], [3]), counts([2])]));
write("i5-nothing-counted.gguf", "ok", gguf(keys, [sums(ONES.map(() => 0)), counts([0])]));
write("i7-duplicate.gguf", "gguf/duplicate", gguf(keys, [sums(ONES), sums(ONES), counts([2])]));
write("i8-count-zero.gguf", "imatrix/value", gguf(keys, [sums(ONES), counts([0])]));
write("i8-count-nan.gguf", "imatrix/value", gguf(keys, [sums(ONES), counts([Number.NaN])]));
write("i8-count-negative.gguf", "imatrix/value", gguf(keys, [sums(ONES), counts([-1])]));
write(
  "i8-count-infinite.gguf",
  "imatrix/value",
  gguf(keys, [sums(ONES), counts([Number.POSITIVE_INFINITY])]),
);

// Two experts of 256 and 512 columns; the second got no token, or half of the values are missing.
const gate = "blk.0.ffn_gate_exps.weight";
const experts = (first, second) => [...ONES.map(() => first), ...ONES.map(() => second)];
write("i6-dead-expert.imatrix", "ok", i32(1), entry(gate, experts(1, 0)));
write("i6-half-of-experts.imatrix", "ok", i32(1), entry(gate, [...experts(1, 1), ...ONES]));
write(
  "i6-dead-expert.gguf",
  "ok",
  gguf(keys, [
    [`${gate}.in_sum2`, [256, 2], experts(4, 0)],
    [`${gate}.counts`, [1, 2], [2, 0]],
  ]),
);
write(
  "i6-dead-expert.cimatrix",
  "ok",
  u64(1),
  named("model.layers.0.block_sparse_moe.experts.w1", experts(1, 0)),
);

writeFileSync(`${folder}expected.json`, `${JSON.stringify(expected, null, 2)}\n`);
