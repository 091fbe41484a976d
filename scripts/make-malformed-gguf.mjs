// Writes test/malformed/gguf/: one small file for each way a GGUF file, a split model or the metadata of a model can be
// wrong, and expected.json with the error tag of each. Kinds g1 … g23 group them: cut, magic and version, counts, strings,
// arrays, array sizes, nesting, ranks, dimensions, zeros, types, rows, alignment, padded sums, offsets, keys, names, many
// tensors, model metadata, tokenizers, templates, block contents, shards. `ok` marks what looks wrong and is legal.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../test/malformed/gguf/", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};

const VALUE = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};
const F32 = 0;
const Q4_0 = 2;

const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));
const integer = (byteLength) => (value) => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return bytes.subarray(0, byteLength);
};
const [u8, u16, u32, u64] = [1, 2, 4, 8].map(integer);
const f32 = (value) => new Uint8Array(Float32Array.of(value).buffer);
const utf8 = (text) => (typeof text === "string" ? new TextEncoder().encode(text) : text);
/** A string; `length` overrides what its length field says. */
const text = (content, length) => concat(u64(length ?? utf8(content).length), utf8(content));
/** A metadata entry of a type (name or number) and the bytes of its value. */
const entry = (key, type, value) => concat(text(key), u32(VALUE[type] ?? type), value);
const list = (type, count, ...items) => concat(u32(VALUE[type] ?? type), u64(count), ...items);
/** A tensor entry; sizes innermost first, as in the file. */
const tensor = (name, sizes, type, offset, rank) =>
  concat(text(name), u32(rank ?? sizes.length), ...sizes.map(u64), u32(type), u64(offset));

/** A file. `counts` override the numbers of tensors and keys; data starts at a multiple of `alignment`. */
function file({
  magic = "GGUF",
  version = 3,
  keys = [],
  tensors = [],
  counts = {},
  data = 0,
  alignment = 32,
}) {
  const head = concat(
    utf8(magic),
    u32(version),
    u64(counts.tensors ?? tensors.length),
    u64(counts.keys ?? keys.length),
    ...keys,
    ...tensors,
  );
  const start = Math.ceil(head.length / alignment) * alignment;
  const bytes = new Uint8Array(typeof data === "number" ? start + data : start + data.length);
  bytes.set(head);
  if (typeof data !== "number") bytes.set(data, start);
  return bytes;
}

function write(name, tag, bytes) {
  expected[`${name}.gguf`] = tag;
  writeFileSync(`${folder}${name}.gguf`, bytes);
}

const good = { keys: [entry("a", "u8", u8(1))], tensors: [tensor("t", [8], F32, 0)], data: 32 };
const withKeys = (...keys) => file({ keys });
const withTensor = (sizes, type = F32, offset = 0, data = 64) =>
  file({ tensors: [tensor("t", sizes, type, offset)], data });

write("g1-empty", "gguf/truncated", new Uint8Array(0));
write("g1-one-byte", "gguf/truncated", utf8("G"));
write("g1-magic-only", "gguf/truncated", utf8("GGUF"));
write("g1-23-bytes", "gguf/truncated", file({}).subarray(0, 23));
write("g1-cut-data", "gguf/truncated", file(good).subarray(0, -1));
write("g1-no-tensors", "ok", file({}).subarray(0, 24));
write("g1-good", "ok", file(good));

write("g2-wrong-magic", "gguf/magic", file({ magic: "GGUX" }));
write("g2-safetensors", "gguf/magic", concat(u64(2), utf8("{}")));
write("g2-ggml", "gguf/magic", file({ magic: "lmgg" }));
write("g2-ggjt", "gguf/magic", file({ magic: "tjgg" }));
write("g2-version-0", "gguf/version", file({ version: 0 }));
write("g2-version-1", "gguf/version", file({ version: 1 }));
write("g2-version-2", "gguf/version", file({ version: 2 }));
write("g2-version-4", "gguf/version", file({ version: 4 }));
write("g2-big-endian", "gguf/byte-order", file({ version: 0x03000000 }));
write("g2-swapped-magic", "gguf/byte-order", file({ magic: "FUGG" }));

for (const [name, count] of [
  ["2-63", 2n ** 63n],
  ["2-64", -1n],
  ["2-53", 2n ** 53n],
  ["2-31", 2n ** 31n],
  ["one-more", 2n],
]) {
  write(
    `g3-tensors-${name}`,
    "gguf/count",
    file({ ...good, data: 0, counts: { tensors: count } }).subarray(0, 63),
  );
  write(`g3-keys-${name}`, "gguf/count", file({ keys: good.keys, counts: { keys: count } }).subarray(0, 40));
}

write("g4-string-2-64", "gguf/count", withKeys(entry("a", "string", text("x", -1n))));
write("g4-string-2-63", "gguf/count", withKeys(entry("a", "string", text("x", 2n ** 63n))));
write("g4-string-past-end", "gguf/count", withKeys(entry("a", "string", text("x", 64))));
write("g4-key-2-64", "gguf/count", file({ keys: [text("a", -1n), u32(0), u8(0)], counts: { keys: 1 } }));
write("g4-name-2-64", "gguf/count", file({ tensors: [concat(text("t", -1n), new Uint8Array(24))] }));
write("g4-string-not-utf8", "gguf/text", withKeys(entry("a", "string", text(Uint8Array.of(0xff, 0xfe)))));
write("g4-string-empty", "ok", withKeys(entry("a", "string", text(""))));
write("g4-byte-order-mark", "ok", withKeys(entry("a", "string", text("\ufeffx"))));

write("g5-array-2-62", "gguf/count", withKeys(entry("a", "array", list("u8", 2n ** 62n))));
write("g5-array-2-63", "gguf/count", withKeys(entry("a", "array", list("u8", 2n ** 63n))));
write("g5-array-past-end", "gguf/count", withKeys(entry("a", "array", list("u8", 1000))));

write("g6-bytes-overflow", "gguf/count", withKeys(entry("a", "array", list("u64", 2n ** 61n + 1n))));
write("g6-strings-huge", "gguf/count", withKeys(entry("a", "array", list("string", 2n ** 40n, text("x")))));
write(
  "g6-strings-one-more",
  "gguf/count",
  withKeys(entry("a", "array", list("string", 12, text(""), text("")))),
);
write("g6-empty-array", "ok", withKeys(entry("a", "array", list("f32", 0))));

const nested = (depth) => (depth === 0 ? list("u8", 1, u8(7)) : list("array", 1, nested(depth - 1)));
write("g7-nested-4", "ok", withKeys(entry("a", "array", nested(3))));
write("g7-nested-5", "gguf/value-type", withKeys(entry("a", "array", nested(4))));
write(
  "g7-nested-10000",
  "gguf/value-type",
  withKeys(entry("a", "array", concat(...Array(10_000).fill(concat(u32(9), u64(1)))))),
);
write("g7-unknown-items", "gguf/value-type", withKeys(entry("a", "array", list(13, 1, u64(0)))));
write("g7-unknown-value", "gguf/value-type", withKeys(entry("a", 13, u64(0))));
write("g7-value-2-31", "gguf/value-type", withKeys(entry("a", 2 ** 31, u64(0))));
write(
  "g7-bool-2",
  "ok",
  withKeys(entry("a", "bool", u8(2)), entry("b", "array", list("bool", 2, u8(0), u8(255)))),
);

write("g8-rank-0", "ok", withTensor([], F32));
write("g8-rank-4", "ok", withTensor([2, 2, 2, 2]));
write("g8-rank-5", "gguf/shape", withTensor([1, 1, 1, 1, 1]));
for (const rank of [1_000_000, 2 ** 31, 2 ** 32 - 1]) {
  write(`g8-rank-${rank}`, "gguf/shape", file({ tensors: [tensor("t", [1], F32, 0, rank)], data: 64 }));
}

write("g9-product-wraps", "gguf/shape", withTensor([2n ** 63n - 1n, 2]));
write("g9-product-2-64", "gguf/shape", withTensor([2n ** 32n, 2n ** 32n]));
write("g9-product-2-53", "gguf/shape", withTensor([2n ** 27n, 2n ** 26n]));
write("g9-minus-one", "gguf/shape", withTensor([-1n]));
write("g9-rows-2-42", "gguf/truncated", withTensor([4, 2n ** 42n + 1n]));
write("g9-larger-than-file", "gguf/truncated", withTensor([1000, 1000]));
write("g9-three-dimensions", "gguf/shape", withTensor([2n ** 21n, 2n ** 21n, 2n ** 21n]));

write("g10-zero", "ok", withTensor([0]));
write("g10-zero-outer", "ok", withTensor([8, 0]));
write("g10-zero-blocks", "ok", withTensor([0, 4], Q4_0));
write("g10-zero-with-huge", "gguf/shape", withTensor([2n ** 32n, 2n ** 32n, 0]));
write("g10-huge-with-zero-first", "gguf/shape", withTensor([0, 2n ** 32n, 2n ** 32n]));

for (const type of [4, 5, 31, 32, 33, 36, 37, 38, 43, 2 ** 31, 2 ** 32 - 1]) {
  write(`g11-type-${type}`, "gguf/type", withTensor([32], type));
}
write("g12-row-31", "gguf/shape", withTensor([31], Q4_0));
write("g12-row-not-a-block", "gguf/shape", withTensor([255, 256], 12));
write("g12-rank-0-blocks", "gguf/shape", withTensor([], Q4_0));

const aligned = (...values) =>
  withKeys(...values.map(([type, bytes]) => entry("general.alignment", type, bytes)));
for (const value of [0, 3, 13, 48, 2 ** 21, 2 ** 31])
  write(`g13-alignment-${value}`, "gguf/alignment", aligned(["u32", u32(value)]));
write("g13-alignment-i32", "gguf/alignment", aligned(["i32", u32(32)]));
write("g13-alignment-u64", "gguf/alignment", aligned(["u64", u64(32)]));
write("g13-alignment-string", "gguf/alignment", aligned(["string", text("32")]));
write("g13-alignment-array", "gguf/alignment", aligned(["array", list("u32", 1, u32(32))]));
write("g13-alignment-twice", "gguf/duplicate", aligned(["u32", u32(32)], ["u32", u32(32)]));
write(
  "g13-alignment-1",
  "ok",
  file({
    keys: [entry("general.alignment", "u32", u32(1))],
    tensors: [tensor("s", [3], 24, 0), tensor("t", [5], 24, 3)],
    data: 8,
    alignment: 1,
  }),
);
write(
  "g13-alignment-64",
  "ok",
  file({
    keys: [entry("general.alignment", "u32", u32(64))],
    tensors: [tensor("t", [8], F32, 64)],
    data: 128,
    alignment: 64,
  }),
);

const two = (a, b, data = 64, offset = 32) =>
  file({ tensors: [tensor("s", a, F32, 0), tensor("t", b, F32, offset)], data });
write("g14-two-of-2-63", "gguf/shape", two([2n ** 61n - 16n], [2n ** 61n - 16n]));
write("g14-sum-2-53", "gguf/truncated", two([2n ** 50n], [2n ** 50n], 64, 2n ** 52n));
write("g14-offset-2-63", "gguf/offsets", two([8], [8], 64, 2n ** 63n));
write("g14-offset-2-64-minus-32", "gguf/offsets", two([8], [8], 64, -32n));
write("g14-offset-2-53-minus-32", "gguf/truncated", two([8], [8], 64, 2n ** 53n - 32n));

write("g15-unaligned", "gguf/offsets", two([8], [8], 96, 36));
write("g15-overlap", "gguf/offsets", two([16], [8], 128, 32));
write("g15-same-bytes", "gguf/offsets", two([8], [8], 128, 0));
write("g15-inside-another", "gguf/offsets", two([64], [1], 256, 64));
write("g15-past-end", "gguf/truncated", two([8], [8], 64, 4096));
write("g15-short-data", "gguf/truncated", two([8], [8], 63));
write("g15-zero-size-shares", "ok", two([0], [8], 64, 0));
write("g15-gap", "ok", two([8], [8], 128, 96));
write("g15-first-not-at-0", "ok", withTensor([8], F32, 32));
write(
  "g15-reordered",
  "ok",
  file({ tensors: [tensor("s", [8], F32, 32), tensor("t", [8], F32, 0)], data: 64 }),
);
write(
  "g15-unknown-type-overlaps",
  "gguf/type",
  file({ tensors: [tensor("s", [8], 77, 0), tensor("t", [8], F32, 0)], data: 64 }),
);

const key = (name) => withKeys(entry(name, "u8", u8(1)));
write("g16-duplicate-key", "gguf/duplicate", withKeys(entry("a", "u8", u8(1)), entry("a", "u8", u8(2))));
write(
  "g16-duplicate-other-type",
  "gguf/duplicate",
  withKeys(entry("a", "u8", u8(1)), entry("a", "f32", f32(1))),
);
write("g16-empty-key", "gguf/key", key(""));
write("g16-65536-bytes", "gguf/count", key("a".repeat(65_536)));
write("g16-not-ascii", "gguf/key", key("gewicht.größe"));
write("g16-not-utf8", "gguf/text", key(Uint8Array.of(0xc3, 0x28)));
write("g16-nul", "gguf/key", key("a\0b"));
write("g16-newline", "gguf/key", key("a\nb"));
for (const name of ["__proto__", "constructor", "a.prototype.b"])
  write(`g16-${name.replaceAll("_", "")}`, "gguf/key", key(name));

const named = (name, length) =>
  file({ tensors: [concat(text(name, length), u32(1), u64(8), u32(F32), u64(0))], data: 32 });
write(
  "g17-duplicate",
  "gguf/duplicate",
  file({ tensors: [tensor("t", [8], F32, 0), tensor("t", [8], F32, 32)], data: 64 }),
);
write("g17-empty", "gguf/name", named(""));
write("g17-63-bytes", "ok", named("a".repeat(63)));
write("g17-64-bytes", "gguf/count", named("a".repeat(64)));
write("g17-nul", "gguf/name", named("a\0b"));
write("g17-newline", "gguf/name", named("a\nb"));
write("g17-escape", "gguf/name", named("a\x1b[2Jb"));
write("g17-c1", "gguf/name", named("a\u009bb"));
write("g17-not-utf8", "gguf/text", named(Uint8Array.of(0x61, 0xff)));
write("g17-dots", "ok", named("../../etc/passwd"));
write("g17-proto", "ok", named("__proto__"));

/** Shards of a model: a folder with files. */
function folderCase(name, tag, files) {
  expected[`${name}/`] = tag;
  mkdirSync(`${folder}${name}`, { recursive: true });
  for (const [index, bytes] of Object.entries(files))
    writeFileSync(`${folder}${name}/m-0000${index}-of-00002.gguf`, bytes);
}
const shard = (no, name, { count = 2, tensors = 2, architecture } = {}) =>
  file({
    keys: [
      ...(architecture ? [entry("general.architecture", "string", text(architecture))] : []),
      entry("split.no", "u16", u16(no)),
      entry("split.count", "u16", u16(count)),
      entry("split.tensors.count", "i32", u32(tensors)),
    ],
    tensors: [tensor(name, [8], F32, 0)],
    data: 32,
  });
folderCase("g23-good", "ok", { 1: shard(0, "a", { architecture: "llama" }), 2: shard(1, "b") });
folderCase("g23-missing", "gguf/split", { 1: shard(0, "a") });
folderCase("g23-wrong-count", "gguf/split", {
  1: shard(0, "a", { count: 3 }),
  2: shard(1, "b", { count: 3 }),
});
folderCase("g23-wrong-total", "gguf/split", {
  1: shard(0, "a", { tensors: 3 }),
  2: shard(1, "b", { tensors: 3 }),
});
folderCase("g23-same-shard-twice", "gguf/split", { 1: shard(0, "a"), 2: shard(0, "a") });
folderCase("g23-tensor-in-two", "gguf/split", { 1: shard(0, "a"), 2: shard(1, "a") });
folderCase("g23-no-keys", "gguf/split", { 1: file(good), 2: file(good) });
folderCase("g23-another-model", "gguf/split", {
  1: shard(0, "a", { architecture: "llama" }),
  2: shard(1, "b", { architecture: "phi3" }),
});
folderCase("g23-text-for-number", "gguf/split", {
  1: file({
    keys: [
      entry("split.no", "string", text("x")),
      entry("split.count", "u16", u16(2)),
      entry("split.tensors.count", "i32", u32(2)),
    ],
  }),
  2: shard(1, "b"),
});

writeFileSync(`${folder}expected.json`, `${JSON.stringify(expected, null, 2)}\n`);
console.log(`${Object.keys(expected).length} cases`);
