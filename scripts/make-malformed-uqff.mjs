// Writes test/malformed/uqff/: small sets of UQFF files, one folder for each way they can be wrong, and expected.json with
// the error tag of each. Kinds U1 … U6 group them: versions; formats; residual tensors, shards and reports; settings
// against data; layers that come twice; numbered blobs of version 0.1. `ok` marks sets that are read.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../test/malformed/uqff/", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const expected = {};

const u8 = (...values) => Uint8Array.from(values);
const u32 = (...values) => new Uint8Array(Uint32Array.from(values).buffer);
const f32 = (...values) => new Uint8Array(Float32Array.from(values).buffer);
const zeros = (length) => new Uint8Array(length);
const join = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A safetensors file of [name, dtype, shape, bytes]. */
function safetensors(tensors, metadata = { "uqff.producer": "test" }) {
  const header = { __metadata__: metadata };
  let end = 0;
  for (const [name, dtype, shape, bytes] of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
  return join(length, text, ...tensors.map(([, , , bytes]) => bytes));
}

/** A folder; without a residual file only when it is given as null. */
function write(name, tag, files) {
  expected[name] = tag;
  const all = {
    "residual.safetensors": safetensors([["model.norm.weight", "F32", [4], f32(1, 1, 1, 1)]]),
    ...files,
  };
  mkdirSync(`${folder}${name}`, { recursive: true });
  for (const [file, content] of Object.entries(all)) {
    if (content !== null) writeFileSync(`${folder}${name}/${file}`, content);
  }
}

const version = (major = 1, minor = 2, patch = 0) => [
  ["uqff.version.major", "U32", [], u32(major)],
  ["uqff.version.minor", "U32", [], u32(minor)],
  ["uqff.version.patch", "U32", [], u32(patch)],
];
const Q = "model.layers.0.self_attn.q_proj";
/** Q8_0 [2, 32] with changes by suffix; null leaves a tensor out. */
function gguf(key = Q, changes = {}) {
  const parts = {
    format: ["U8", [], u8(0)],
    dtype: ["U32", [], u32(8)],
    shape: ["U32", [2], u32(2, 32)],
    ...Object.fromEntries(Object.entries(changes).filter(([suffix]) => suffix !== "weight")),
  };
  const settings = Object.entries(parts).filter(([, part]) => part !== null);
  const weight = changes.weight === undefined ? ["U8", [68], zeros(68)] : changes.weight;
  return [
    ...(weight === null ? [] : [[`${key}.weight`, ...weight]]),
    ...settings.map(([suffix, part]) => [`${key}.weight.${suffix}`, ...part]),
  ];
}
/** HQQ4 [2, 64]: two groups. */
function hqq(changes = {}) {
  const parts = {
    weight: ["U8", [32, 2], zeros(64)],
    "weight.format": ["U8", [], u8(2)],
    "weight.scales": ["F32", [1, 2], f32(1, 1)],
    "weight.zeros": ["F32", [1, 2], f32(0, 0)],
    "weight.shape": ["U32", [2], u32(2, 64)],
    "weight.bits": ["U8", [], u8(4)],
    "weight.group_size": ["U32", [], u32(64)],
    "weight.axis": ["U8", [], u8(0)],
    "weight.optimization_steps": ["U32", [], u32(10)],
    "weight.round_zeros": ["U8", [], u8(0)],
    "weight.channel_wise": ["U8", [], u8(1)],
    ...changes,
  };
  return Object.entries(parts).flatMap(([suffix, part]) =>
    part === null ? [] : [[`${Q}.${suffix}`, ...part]],
  );
}
/** FP8 [2, 2]. */
function fp8(changes = {}) {
  const parts = {
    weight: ["F8_E4M3", [2, 2], zeros(4)],
    "weight.format": ["U8", [], u8(3)],
    "weight.dequant_w_scale": ["F32", [], f32(0.5)],
    "weight.dequant_x_scale": ["F32", [], f32(0.5)],
    "weight.quant_scale": ["F32", [], f32(2)],
    "weight.dtype": ["U32", [], u32(9)],
    ...changes,
  };
  return Object.entries(parts).flatMap(([suffix, part]) =>
    part === null ? [] : [[`${Q}.${suffix}`, ...part]],
  );
}
const one = (tensors) => ({ "m-0.uqff": safetensors(tensors) });

write("u1-good", "ok", one([...version(), ...gguf()]));
write("u1-good-1.0", "ok", one([...version(1, 0, 0), ...gguf()]));
write(
  "u1-one-element",
  "ok",
  one([["uqff.version.major", "U32", [1], u32(1)], ...version().slice(1), ...gguf()]),
);
write("u1-no-version", "uqff/version", one(gguf()));
write("u1-major-2", "uqff/version", one([...version(2, 0, 0), ...gguf()]));
write("u1-major-0", "uqff/version", one([...version(0, 1, 2), ...gguf()]));
write("u1-minor-3", "uqff/version", one([...version(1, 3, 0), ...gguf()]));
write("u1-no-minor", "uqff/version", one([version()[0], version()[2], ...gguf()]));
write(
  "u1-other-dtype",
  "uqff/version",
  one([["uqff.version.major", "U8", [], u8(1)], ...version().slice(1), ...gguf()]),
);
write(
  "u1-vector",
  "uqff/version",
  one([["uqff.version.major", "U32", [2], u32(1, 1)], ...version().slice(1), ...gguf()]),
);
write("u1-in-the-second", "ok", {
  "m-0.uqff": safetensors(gguf()),
  "m-1.uqff": safetensors([...version(), ...gguf("lm_head")]),
});
write("u1-two-versions", "uqff/version", {
  "m-0.uqff": safetensors([...version(), ...gguf()]),
  "m-1.uqff": safetensors([...version(1, 1, 0), ...gguf("lm_head")]),
});
write("u1-no-tensors", "uqff/version", one([]));

write("u2-format-7", "uqff/format", one([...version(), ...gguf(Q, { format: ["U8", [], u8(7)] })]));
write("u2-format-255", "uqff/format", one([...version(), ...gguf(Q, { format: ["U8", [], u8(255)] })]));
write("u2-format-wide", "uqff/format", one([...version(), ...gguf(Q, { format: ["U32", [], u32(0)] })]));
write("u2-format-vector", "uqff/format", one([...version(), ...gguf(Q, { format: ["U8", [2], u8(0, 0)] })]));
write("u2-format-empty", "uqff/format", one([...version(), ...gguf(Q, { format: ["U8", [0], u8()] })]));
write("u2-no-format", "uqff/format", one([...version(), ...gguf(Q, { format: null })]));
write("u2-no-weight", "uqff/format", one([...version(), ...gguf(Q, { weight: null })]));
write("u2-no-shape", "uqff/format", one([...version(), ...gguf(Q, { shape: null })]));
write("u2-type-4", "uqff/type", one([...version(), ...gguf(Q, { dtype: ["U32", [], u32(4)] })]));
write("u2-type-16", "uqff/type", one([...version(), ...gguf(Q, { dtype: ["U32", [], u32(16)] })]));
write("u2-type-2-32", "uqff/type", one([...version(), ...gguf(Q, { dtype: ["U32", [], u32(2 ** 32 - 1)] })]));
write("u2-type-i8", "uqff/type", one([...version(), ...gguf(Q, { dtype: ["U32", [], u32(24)] })]));
write("u2-proto", "ok", one([...version(), ...gguf("__proto__"), ...gguf("constructor")]));
write(
  "u2-plain",
  "ok",
  one([...version(), [`${Q}.weight`, "BF16", [1, 2], zeros(4)], [`${Q}.weight.format`, "U8", [], u8(1)]]),
);
write("u2-bias", "ok", one([...version(), ...gguf(), [`${Q}.bias`, "F32", [2], f32(1, 2)]]));
write("u2-bias-of-bytes", "uqff/type", one([...version(), ...gguf(), [`${Q}.bias`, "U8", [2], u8(1, 2)]]));
write(
  "u2-afq",
  "ok",
  one([
    ...version(),
    [`${Q}.weight`, "U32", [2, 1], u32(0, 0)],
    [`${Q}.weight.format`, "U8", [], u8(4)],
    [`${Q}.weight.bits`, "U8", [], u8(4)],
    [`${Q}.weight.group_size`, "U8", [], u8(64)],
    [`${Q}.weight.scales`, "F32", [2, 1], f32(1, 1)],
    [`${Q}.weight.biases`, "F32", [2, 1], f32(0, 0)],
  ]),
);
write("u2-hqq", "ok", one([...version(), ...hqq()]));
write("u2-hqq-3-bits", "ok", one([...version(), ...hqq({ "weight.bits": ["U8", [], u8(3)] })]));
write("u2-hqq-no-zeros", "uqff/format", one([...version(), ...hqq({ "weight.zeros": null })]));
write("u2-hqq-no-steps", "uqff/format", one([...version(), ...hqq({ "weight.optimization_steps": null })]));
write("u2-fp8", "ok", one([...version(), ...fp8()]));
write("u2-fp8-bytes", "uqff/type", one([...version(), ...fp8({ weight: ["U8", [2, 2], zeros(4)] })]));
write("u2-fp8-no-scale", "uqff/format", one([...version(), ...fp8({ "weight.quant_scale": null })]));
write(
  "u2-fp8-half-scale",
  "uqff/format",
  one([...version(), ...fp8({ "weight.quant_scale": ["F16", [], zeros(2)] })]),
);

const report = (outputs, schema = 1) =>
  JSON.stringify({ schema, generated_by: {}, uqff_version: "1.2.0", outputs });
const claim = (changes = {}) => ({
  quant: "q8_0",
  shards: ["m-0.uqff"],
  layers: 1,
  actual_counts: { q8_0: 1 },
  ...changes,
});
const good = one([...version(), ...gguf()]);
write("u3-no-residual", "uqff/residual", { ...good, "residual.safetensors": null });
write("u3-damaged-residual", "safetensors/truncated", { ...good, "residual.safetensors": u8(1, 0, 0) });
write("u3-report", "ok", { ...good, "uqff_report.json": report([claim()]) });
write("u3-report-of-others", "ok", {
  ...good,
  "uqff_report.json": report([claim({ shards: ["n-0.uqff"] })]),
});
write("u3-report-missing-shard", "uqff/report", {
  ...good,
  "uqff_report.json": report([claim({ shards: ["m-0.uqff", "m-1.uqff"] })]),
});
write("u3-report-other-count", "uqff/report", {
  ...good,
  "uqff_report.json": report([claim({ layers: 2 })]),
});
write("u3-report-other-type", "uqff/report", {
  ...good,
  "uqff_report.json": report([claim({ actual_counts: { q4k: 1 } })]),
});
write("u3-report-not-json", "uqff/report", { ...good, "uqff_report.json": "{" });
write("u3-report-list", "uqff/report", { ...good, "uqff_report.json": "[]" });
write("u3-report-schema-2", "uqff/report", { ...good, "uqff_report.json": report([claim()], 2) });
write("u3-report-empty", "uqff/report", { ...good, "uqff_report.json": report([]) });
write("u3-report-parent-folder", "uqff/report", {
  ...good,
  "uqff_report.json": report([claim({ shards: ["../m-0.uqff"] })]),
});
write("u3-report-twice", "uqff/report", {
  ...good,
  "uqff_report.json": report([claim(), claim({ quant: "q4k" })]),
});

const shape = (...sizes) => ({ shape: ["U32", [sizes.length], u32(...sizes)] });
write("u4-data-short", "uqff/size", one([...version(), ...gguf(Q, { weight: ["U8", [67], zeros(67)] })]));
write("u4-data-long", "uqff/size", one([...version(), ...gguf(Q, { weight: ["U8", [102], zeros(102)] })]));
write(
  "u4-data-of-words",
  "uqff/format",
  one([...version(), ...gguf(Q, { weight: ["U32", [17], zeros(68)] })]),
);
write("u4-other-type", "uqff/size", one([...version(), ...gguf(Q, { dtype: ["U32", [], u32(2)] })]));
write("u4-row-of-31", "uqff/size", one([...version(), ...gguf(Q, shape(2, 31))]));
write("u4-shape-overflow", "uqff/size", one([...version(), ...gguf(Q, shape(2 ** 31, 2 ** 31, 2 ** 31))]));
write("u4-shape-zero", "uqff/size", one([...version(), ...gguf(Q, shape(0, 32))]));
write("u4-shape-wide", "uqff/format", one([...version(), ...gguf(Q, { shape: ["I64", [2], zeros(16)] })]));
write("u4-shape-scalar", "uqff/format", one([...version(), ...gguf(Q, { shape: ["U32", [], u32(64)] })]));
write("u4-rank-0", "uqff/format", one([...version(), ...gguf(Q, { shape: ["U32", [0], u8()] })]));
write("u4-rank-9", "uqff/format", one([...version(), ...gguf(Q, { shape: ["U32", [9], zeros(36)] })]));
write(
  "u4-rank-1000",
  "uqff/format",
  one([...version(), ...gguf(Q, { shape: ["U32", [1000], zeros(4000)] })]),
);
write(
  "u4-stacked",
  "ok",
  one([
    ...version(),
    ...gguf("model.layers.0.mlp.experts.up_proj", { weight: ["U8", [136], zeros(136)], ...shape(2, 2, 32) }),
  ]),
);
write(
  "u4-hqq-scales",
  "uqff/size",
  one([...version(), ...hqq({ "weight.scales": ["F32", [1, 3], f32(1, 1, 1)] })]),
);
write(
  "u4-hqq-zeros-bytes",
  "uqff/size",
  one([...version(), ...hqq({ "weight.zeros": ["U8", [1, 2], u8(0, 0)] })]),
);
write("u4-hqq-codes", "uqff/size", one([...version(), ...hqq({ weight: ["U8", [64, 2], zeros(128)] })]));
write(
  "u4-hqq-part-of-group",
  "uqff/size",
  one([...version(), ...hqq({ weight: ["U8", [33], zeros(33)], "weight.shape": ["U32", [2], u32(2, 33)] })]),
);

write("u5-two-shards", "uqff/duplicate", {
  "m-0.uqff": safetensors([...version(), ...gguf()]),
  "m-1.uqff": safetensors([...version(), ...gguf()]),
});
write("u5-setting-twice", "uqff/duplicate", {
  "m-0.uqff": safetensors([...version(), ...gguf()]),
  "m-1.uqff": safetensors([...version(), ...gguf("lm_head"), [`${Q}.weight.dtype`, "U32", [], u32(8)]]),
});
write("u5-in-residual", "uqff/duplicate", {
  ...good,
  "residual.safetensors": safetensors([[`${Q}.weight`, "F32", [1], f32(1)]]),
});
write("u5-in-one-header", "safetensors/duplicate-key", {
  "m-0.uqff": (() => {
    const text = new TextEncoder().encode(
      '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    );
    return join(new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer), text);
  })(),
});
write("u5-layer-over-shards", "ok", {
  "m-0.uqff": safetensors([...version(), ...gguf().slice(0, 2)]),
  "m-1.uqff": safetensors(gguf().slice(2)),
});
write("u5-numbered-twice", "uqff/duplicate", {
  "m-0.uqff": safetensors([["0", "U8", [blob().length], blob()]]),
  "m-1.uqff": safetensors([["0", "U8", [blob().length], blob()]]),
});

/** A blob of version 0.1.2 with Q8_0 [2, 32]. */
function blob({
  word = 0x102,
  format = 0,
  length = 68,
  bias = 0,
  type = 8,
  rank = 2,
  sizes = [2, 32],
  data = zeros(68),
  tail = u8(),
} = {}) {
  return join(u32(word), u8(format), u32(length), u8(bias), u32(type, rank, ...sizes), data, tail);
}
const tensor = (dtype, sizes, data, length = data.length) =>
  join(u32(length, dtype, sizes.length, ...sizes), data);
const numbered = (bytes, dtype = "U8", dims = [bytes.length]) => ({
  "m-0.uqff": safetensors([["0", dtype, dims, bytes]]),
});
const head = (format) => join(u32(0x102), u8(format, 0));
const hqqBlob = ({
  codes = tensor(0, [32, 2], zeros(64)),
  tail = join(u32(2, 2, 64), u8(4), u32(64), u8(0), u32(10), u8(0, 1)),
} = {}) => join(head(2), codes, tensor(6, [1, 2], f32(1, 1)), tensor(6, [1, 2], f32(0, 0)), tail);
const fp8Blob = (dtype = 9) => join(head(3), tensor(dtype, [2, 2], zeros(4)), f32(0.5, 0.5, 2), u32(9));

write("u6-good", "ok", numbered(blob()));
write("u6-bias", "ok", numbered(blob({ bias: 1, tail: tensor(6, [2], f32(1, 2)) })));
write("u6-plain", "ok", numbered(join(head(1), tensor(5, [1, 2], zeros(4)))));
write("u6-hqq", "ok", numbered(hqqBlob()));
write("u6-fp8", "ok", numbered(fp8Blob()));
write("u6-major-1", "uqff/version", numbered(blob({ word: 0x10000 })));
write("u6-major-65535", "uqff/version", numbered(blob({ word: 2 ** 32 - 1 })));
write("u6-format-4", "uqff/format", numbered(blob({ format: 4 })));
write("u6-format-255", "uqff/format", numbered(blob({ format: 255 })));
write("u6-type-4", "uqff/type", numbered(blob({ type: 4 })));
write("u6-type-2-31", "uqff/type", numbered(blob({ type: 2 ** 31 })));
write("u6-flag-2", "uqff/format", numbered(blob({ bias: 2 })));
write("u6-length-past-end", "uqff/truncated", numbered(blob({ length: 69 })));
write("u6-length-2-32", "uqff/truncated", numbered(blob({ length: 2 ** 32 - 1 })));
write("u6-length-of-other-shape", "uqff/size", numbered(blob({ length: 34, data: zeros(34) })));
write("u6-rank-9", "uqff/size", numbered(blob({ rank: 9, sizes: new Array(9).fill(1) })));
write("u6-rank-2-32", "uqff/size", numbered(blob({ rank: 2 ** 32 - 1 })));
write("u6-shape-overflow", "uqff/size", numbered(blob({ rank: 3, sizes: [2 ** 31, 2 ** 31, 32] })));
write("u6-bias-missing", "uqff/truncated", numbered(blob({ bias: 1 })));
write("u6-bias-dtype-10", "uqff/type", numbered(blob({ bias: 1, tail: tensor(10, [2], f32(1, 2)) })));
write("u6-bias-of-bytes", "uqff/type", numbered(blob({ bias: 1, tail: tensor(0, [2], u8(1, 2)) })));
write("u6-bias-length", "uqff/size", numbered(blob({ bias: 1, tail: tensor(6, [3], f32(1, 2)) })));
write("u6-bytes-behind", "uqff/size", numbered(blob({ tail: u8(0) })));
write("u6-empty-blob", "uqff/truncated", numbered(u8()));
write("u6-four-bytes", "uqff/truncated", numbered(u32(0x102)));
const padded = join(blob(), zeros(100 - blob().length));
write("u6-words", "uqff/format", numbered(padded, "U32", [25]));
write("u6-matrix", "uqff/format", numbered(padded, "U8", [2, 50]));
write("u6-hqq-codes-short", "uqff/size", numbered(hqqBlob({ codes: tensor(0, [32, 2], zeros(60)) })));
write(
  "u6-hqq-codes-past-end",
  "uqff/truncated",
  numbered(hqqBlob({ codes: tensor(0, [2 ** 20, 2 ** 10], zeros(4), 2 ** 30) })),
);
write("u6-hqq-cut-tail", "uqff/truncated", numbered(hqqBlob({ tail: join(u32(2, 2, 64), u8(4)) })));
write(
  "u6-hqq-flag",
  "uqff/format",
  numbered(hqqBlob({ tail: join(u32(2, 2, 64), u8(4), u32(64), u8(0), u32(10), u8(7, 1)) })),
);
write("u6-fp8-of-bytes", "uqff/type", numbered(fp8Blob(0)));
write("u6-mixed", "uqff/version", {
  "m-0.uqff": safetensors([["0", "U8", [93], blob()]].map(([a, b, , d]) => [a, b, [d.length], d])),
  "m-1.uqff": safetensors([...version(), ...gguf()]),
});
write("u6-leading-zero", "uqff/version", {
  "m-0.uqff": safetensors([["00", "U8", [blob().length], blob()]]),
});

writeFileSync(`${folder}expected.json`, `${JSON.stringify(expected, null, 2)}\n`);
console.log(`${Object.keys(expected).length} cases`);
