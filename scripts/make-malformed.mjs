// Writes test/malformed/safetensors/: one small file for each way a safetensors file or a shard index can be wrong, and
// expected.json with the error tag of each. Kinds S1 … S9 group them: length, header, keys, offsets, sizes, dtypes, legal
// oddities, size of the work, shards. `ok` marks files that look wrong and are legal.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../test/malformed/safetensors/", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};

/** A file of a header text (or bytes) and data; `length` overrides the header length field. */
function file(header, dataBytes = 0, length) {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length ?? text.length), true);
  bytes.set(text, 8);
  return bytes;
}

function write(name, tag, bytes) {
  expected[`${name}.safetensors`] = tag;
  writeFileSync(`${folder}${name}.safetensors`, bytes);
}

const tensor = (dtype, shape, from, to) =>
  `{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${from},${to}]}`;
const one = `{"a":${tensor("F32", "2", 0, 8)}}`;

write("s1-empty", "safetensors/truncated", new Uint8Array(0));
write("s1-seven-bytes", "safetensors/truncated", new Uint8Array(7));
write("s1-zero-header", "safetensors/header-length", file("", 0, 0));
write("s1-header-beyond-file", "safetensors/header-length", file(one, 8, 4096));
write("s1-header-above-cap", "safetensors/header-length", file(one, 8, 100_000_001));
write("s1-header-2-64", "safetensors/header-length", file(one, 8, 2n ** 64n - 1n));
write("s2-not-utf8", "safetensors/header-json", file(Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d)));
write("s2-not-json", "safetensors/header-json", file("{oops}"));
write("s2-array", "safetensors/header-json", file("[]"));
write("s2-leading-space", "safetensors/header-json", file(` ${one}`, 8));
write("s2-byte-order-mark", "safetensors/header-json", file(`\ufeff${one}`, 8));
write("s2-text-after-end", "safetensors/header-json", file(`${one}x`, 8));
write("s2-tensor-not-object", "safetensors/header-json", file('{"a":3}'));
write("s2-half-surrogate", "safetensors/header-json", file(`{"\\ud800":${tensor("U8", "1", 0, 1)}}`, 1));
write("s2-control-character", "safetensors/header-json", file(`{"\n":${tensor("U8", "1", 0, 1)}}`, 1));
write("s2-leading-zero", "safetensors/header-json", file(`{"a":${tensor("U8", "01", 0, 1)}}`, 1));
write("s2-trailing-comma", "safetensors/header-json", file(`{"a":${tensor("U8", "1", 0, 1)},}`, 1));
write("s2-trailing-spaces", "ok", file(`${one}     `, 8));
write(
  "s3-duplicate-tensor",
  "safetensors/duplicate-key",
  file(`{"a":${tensor("F32", "1", 0, 4)},"a":${tensor("F32", "1", 0, 4)}}`, 4),
);
write(
  "s3-duplicate-escaped",
  "safetensors/duplicate-key",
  file(`{"a":${tensor("F32", "1", 0, 4)},"\\u0061":${tensor("F32", "1", 0, 4)}}`, 4),
);
write(
  "s3-duplicate-field",
  "safetensors/duplicate-key",
  file('{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', 4),
);
write("s3-two-metadata", "safetensors/duplicate-key", file('{"__metadata__":{},"__metadata__":{}}'));
write("s3-metadata-number", "safetensors/metadata", file('{"__metadata__":{"a":1}}'));
write("s3-metadata-array", "safetensors/metadata", file('{"__metadata__":[]}'));
write("s3-metadata-null", "safetensors/metadata", file('{"__metadata__":null}'));
write(
  "s3-duplicate-unknown-field",
  "safetensors/duplicate-key",
  file('{"a":{"x":1,"x":1,"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
);
write("s3-unknown-field", "ok", file('{"a":{"x":[{}],"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'));
write("s3-duplicate-metadata-key", "safetensors/duplicate-key", file('{"__metadata__":{"a":"1","a":"2"}}'));
write("s4-start-not-zero", "safetensors/offsets", file(`{"a":${tensor("F32", "1", 4, 8)}}`, 8));
write(
  "s4-gap",
  "safetensors/offsets",
  file(`{"a":${tensor("F32", "1", 0, 4)},"b":${tensor("F32", "1", 8, 12)}}`, 12),
);
write(
  "s4-overlap",
  "safetensors/offsets",
  file(`{"a":${tensor("F32", "2", 0, 8)},"b":${tensor("F32", "2", 4, 12)}}`, 12),
);
write(
  "s4-same-bytes",
  "safetensors/offsets",
  file(`{"a":${tensor("F32", "2", 0, 8)},"b":${tensor("F32", "2", 0, 8)}}`, 8),
);
write("s4-begin-after-end", "safetensors/offsets", file(`{"a":${tensor("F32", "1", 4, 0)}}`, 4));
write("s4-beyond-file", "safetensors/truncated", file(one, 4));
write("s4-trailing-bytes", "safetensors/offsets", file(one, 9));
write(
  "s4-three-offsets",
  "safetensors/offsets",
  file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', 4),
);
write("s4-no-offsets", "safetensors/offsets", file('{"a":{"dtype":"F32","shape":[1]}}', 4));
write("s5-shape-against-range", "safetensors/size", file(`{"a":${tensor("F32", "3", 0, 8)}}`, 8));
write(
  "s5-product-overflow",
  "safetensors/size",
  file(`{"a":${tensor("U8", "4294967296,4294967296", 0, 0)}}`),
);
write(
  "s5-overflow-then-zero",
  "safetensors/size",
  file(`{"a":${tensor("U8", "4294967296,4294967296,0", 0, 0)}}`),
);
write("s5-zero-first", "ok", file(`{"a":${tensor("U8", "0,4294967296,4294967296", 0, 0)}}`));
write("s5-minus-zero", "safetensors/shape", file(`{"a":${tensor("U8", "-0", 0, 0)}}`));
write("s5-huge-number", "safetensors/shape", file(`{"a":${tensor("F32", "1e308", 0, 4)}}`, 4));
write("s5-exponent", "safetensors/shape", file(`{"a":${tensor("F32", "1e0", 0, 4)}}`, 4));
write("s5-negative", "safetensors/shape", file(`{"a":${tensor("F32", "-1", 0, 4)}}`, 4));
write("s5-fraction", "safetensors/shape", file(`{"a":${tensor("F32", "1.5", 0, 4)}}`, 4));
write("s5-unsafe-integer", "safetensors/shape", file(`{"a":${tensor("F32", "9007199254740993", 0, 4)}}`, 4));
write(
  "s5-unsafe-offset",
  "safetensors/offsets",
  file(`{"a":${tensor("F32", "1", 0, "9007199254740993")}}`, 4),
);
write("s5-shape-text", "safetensors/shape", file(`{"a":${tensor("F32", '"1"', 0, 4)}}`, 4));
write("s6-unknown-dtype", "safetensors/dtype", file(`{"a":${tensor("F31", "1", 0, 4)}}`, 4));
write("s6-prototype-dtype", "safetensors/dtype", file(`{"a":${tensor("constructor", "1", 0, 4)}}`, 4));
write("s6-no-dtype", "safetensors/dtype", file('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4));
write("s6-f4-odd", "safetensors/size", file(`{"a":${tensor("F4", "3", 0, 2)}}`, 2));
write("s6-f6-partial-byte", "safetensors/size", file(`{"a":${tensor("F6_E2M3", "3", 0, 3)}}`, 3));
write("s7-rank-zero", "ok", file(`{"a":${tensor("F32", "", 0, 4)}}`, 4));
write("s7-zero-size", "ok", file(`{"a":${tensor("F32", "0,4", 0, 0)},"b":${tensor("U8", "1", 0, 1)}}`, 1));
write("s7-empty-header", "ok", file("{}"));
write(
  "s7-proto-name",
  "ok",
  file(`{"__proto__":${tensor("U8", "1", 0, 1)},"constructor":${tensor("U8", "1", 1, 2)}}`, 2),
);
write("s7-rank-nine", "safetensors/shape", file(`{"a":${tensor("U8", "1,1,1,1,1,1,1,1,1", 0, 1)}}`, 1));
write(
  "s8-nested-unknown-field",
  "safetensors/limit",
  file(`{"a":{"x":${"[".repeat(2000)}${"]".repeat(2000)}}}`),
);
write("s8-long-name", "safetensors/limit", file(`{"${"a".repeat(65_536)}":${tensor("U8", "1", 0, 1)}}`, 1));
write("s8-nested-arrays", "safetensors/header-json", file(`{"a":${"[".repeat(2000)}${"]".repeat(2000)}}`));

/** Shard folders: an index and files beside it. */
function folderCase(name, tag, index, files = {}) {
  expected[`${name}/`] = tag;
  mkdirSync(`${folder}${name}`, { recursive: true });
  writeFileSync(
    `${folder}${name}/model.safetensors.index.json`,
    typeof index === "string" ? index : JSON.stringify(index),
  );
  for (const [path, bytes] of Object.entries(files)) writeFileSync(`${folder}${name}/${path}`, bytes);
}
const shard = (name) => file(`{"${name}":${tensor("U8", "1", 0, 1)}}`, 1);
folderCase("s9-parent-folder", "safetensors/index", { weight_map: { a: "../../x.safetensors" } });
folderCase("s9-absolute-path", "safetensors/index", { weight_map: { a: "/etc/x.safetensors" } });
folderCase("s9-backslash", "safetensors/index", { weight_map: { a: "..\\x.safetensors" } });
folderCase("s9-nul", "safetensors/index", { weight_map: { a: "x\0.safetensors" } });
folderCase("s9-two-maps", "safetensors/index", '{"weight_map":{},"weight_map":{"a":"s1.safetensors"}}');
folderCase("s9-nested", "safetensors/index", `{"metadata":${"[".repeat(2000)}`);
folderCase("s9-list", "safetensors/index", "[]");
folderCase("s9-missing-shard", "safetensors/index", { weight_map: { a: "s1.safetensors" } });
folderCase("s9-no-map", "safetensors/index", { metadata: {} });
folderCase("s9-empty-map", "safetensors/index", { weight_map: {} });
folderCase("s9-not-json", "safetensors/index", "{");
folderCase("s9-number", "safetensors/index", { weight_map: { a: 1 } });
folderCase(
  "s9-mapped-twice",
  "safetensors/index",
  '{"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}}',
  { "s1.safetensors": shard("a"), "s2.safetensors": shard("b") },
);
folderCase(
  "s9-tensor-in-two",
  "safetensors/index",
  { weight_map: { a: "s1.safetensors", b: "s2.safetensors" } },
  { "s1.safetensors": shard("a"), "s2.safetensors": shard("a") },
);
folderCase(
  "s9-tensor-not-there",
  "safetensors/index",
  { weight_map: { a: "s1.safetensors", b: "s1.safetensors" } },
  { "s1.safetensors": shard("a") },
);
folderCase(
  "s9-tensor-elsewhere",
  "safetensors/index",
  { weight_map: { a: "s2.safetensors", b: "s1.safetensors" } },
  { "s1.safetensors": shard("a"), "s2.safetensors": shard("b") },
);
folderCase(
  "s9-good",
  "ok",
  { weight_map: { a: "s1.safetensors", b: "s2.safetensors" } },
  { "s1.safetensors": shard("a"), "s2.safetensors": shard("b") },
);

writeFileSync(`${folder}expected.json`, `${JSON.stringify(expected, null, 2)}\n`);
console.log(`${Object.keys(expected).length} cases`);
