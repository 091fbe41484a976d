// Packs a folder of golden data into src/vectors: `node scripts/make-vectors.mjs GOLDEN_FOLDER`.
//
// Reads golden.bin + manifest.json, hqq-fp8.bin + .json and nonfinite.bin + .json, checks the sha256 of every section,
// and writes vectors.br: brotli of the manifest's byte length (u32), the manifest (JSON) and each distinct section once,
// all little-endian and padded to 4 bytes. src/vectors/parse.ts documents the manifest. The output depends on the
// input alone.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node scripts/make-vectors.mjs GOLDEN_FOLDER");
  process.exit(2);
}
const target = fileURLToPath(new URL("../src/vectors", import.meta.url));
const LIMIT_BYTES = 3_000_000; // of the packed file, since it ships as a sub-path of the package

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const source = {};
const read = (name) => {
  const bytes = readFileSync(join(folder, name));
  source[name] = sha256(bytes);
  return bytes;
};
const readJson = (name) => JSON.parse(read(name).toString("utf8"));

/** Distinct sections in order of first use. */
const sections = [];
const indexes = new Map();

/** The index of a section of a golden file, after checking that its bytes are the ones its manifest names. */
function take(bin, { offset, bytes, sha256: expected }) {
  const section = bin.subarray(offset, offset + bytes);
  if (section.length !== bytes || sha256(section) !== expected) {
    throw new Error(`section at ${offset}, ${bytes} bytes: sha256 differs from the manifest's ${expected}`);
  }
  if (!indexes.has(expected)) indexes.set(expected, sections.push(section) - 1);
  return indexes.get(expected);
}

const hashOf = (entry) => Buffer.from(entry.sha256, "hex").toString("base64");

/** Section index where the bytes are stored, else their sha256 in base64. */
const takeOrHash = (bin, entry) => (entry.offset === undefined ? hashOf(entry) : take(bin, entry));

/** The table's spelling: Q2_K is Q2K here. */
const typeName = (name) => name.replace("_K", "K");
const algorithmName = (family) => (family === "candle" ? "mistralrs" : family);

/** One entry per group, type and importance setting, with what each algorithm makes of it. */
function packCases(golden, bin) {
  const rowsOf = new Map(golden.groups.map((group) => [group.name, group.rows]));
  const byId = new Map(golden.cases.map((c) => [c.id, c]));
  const pack = (c) => {
    const twin = byId.get(c.id.replace(/candle$/, "ggml"));
    const sameRows = String(c.rows) === String(twin.rows);
    if (c.same_as !== undefined && (c.same_as !== twin.id || !sameRows)) {
      throw new Error(`${c.id} is not simply the same as ${twin.id}`);
    }
    if (c.same_as) return "same";
    return {
      ...(c.rows.length !== rowsOf.get(c.group) && { rows: c.rows }),
      ...(c.quant && { data: take(bin, c.quant) }),
      ...(c.deq && { decoded: takeOrHash(bin, c.deq) }),
      ...(c.assert_rows && { assertRows: c.assert_rows }),
      ...(c.excluded && { excluded: c.excluded }),
    };
  };
  const entries = new Map();
  for (const c of golden.cases) {
    const key = c.id.slice(0, c.id.lastIndexOf("/"));
    const start = { group: c.group, type: typeName(c.type), ...(c.imatrix && { importance: true }) };
    entries.set(key, { ...(entries.get(key) ?? start), [algorithmName(c.family)]: pack(c) });
  }
  return [...entries.values()];
}

function packBlockTypes() {
  const bin = read("golden.bin");
  const golden = readJson("manifest.json");
  const packDot = (d) => ({
    type: typeName(d.type),
    activationType: typeName(d.activation_type),
    columns: d.n,
    rows: d.rows,
    weights: take(bin, d.weights),
    activations: take(bin, d.activations),
    ggml: take(bin, d.expected_ggml_generic),
    mistralrs: take(bin, d.expected_candle_unopt),
    exact: d.float64_dot_of_dequantized,
    magnitude: d.float64_sum_abs,
  });
  const [encode, halves, bfloats] = ["f32_to_f16/bf16", "f16_to_f32_all", "bf16_to_f32_all"].map((name) =>
    golden.conv.find((conversion) => conversion.name === name),
  );
  return {
    reference: golden.reference,
    groups: golden.groups.map((g) => ({
      name: g.name,
      description: g.description,
      rows: g.rows,
      columns: g.n,
      values: take(bin, g.input),
      importance: take(bin, g.imatrix),
      importanceDescription: g.imatrix.description,
    })),
    cases: packCases(golden, bin),
    blocks: golden.blocks.map((b) => ({
      type: typeName(b.type),
      data: take(bin, b.quant),
      decoded: take(bin, b.deq),
    })),
    conversions: {
      values: take(bin, encode.input),
      halves: take(bin, encode.f16),
      bfloats: take(bin, encode.bf16),
      allHalves: hashOf(halves.f32),
      allBfloats: hashOf(bfloats.f32),
    },
    dots: golden.dot.map(packDot),
  };
}

function packTensorTypes() {
  const bin = read("hqq-fp8.bin");
  const golden = readJson("hqq-fp8.json");
  return {
    e4m3: take(bin, golden.e4m3_values),
    tensors: golden.cases.map((c) => ({
      id: c.id,
      type: c.type,
      algorithm: c.algorithm,
      shape: c.shape,
      values: take(bin, c.input),
      data: take(bin, c.weight ?? c.codes),
      ...(c.scales && { scales: take(bin, c.scales), zeros: take(bin, c.zeros) }),
      ...(c.quantize_scale && {
        quantizeScale: take(bin, c.quantize_scale),
        dequantizeScale: take(bin, c.dequantize_scale),
      }),
      decoded: take(bin, c.dequantized),
    })),
  };
}

/**
 * Observations on NaN and infinities among the weights, where `nonFinite: "raw"` is defined and every build agrees: the
 * K types of ggml, and candle unless it ends in a NaN scale.
 */
function packNonFinite() {
  const bin = read("nonfinite.bin");
  const golden = readJson("nonfinite.json");
  const cases = [];
  for (const c of golden.cases) {
    if (c.imatrix !== null && c.imatrix !== "imatrix") continue;
    const common = { type: typeName(c.type), input: c.input, values: take(bin, golden.inputs[c.input]) };
    const importance = c.imatrix ? { importance: take(bin, golden.inputs[c.imatrix]) } : {};
    const defined = c.type.endsWith("_K") && (c.status === "defined" || c.status === "assert");
    if (defined && c.observed_ggml && c.disagreeing_builds.length === 0) {
      cases.push({ ...common, ...importance, algorithm: "ggml", data: take(bin, c.observed_ggml) });
    }
    if (c.observed_candle && c.candle_nan_scale === false) {
      cases.push({ ...common, ...importance, algorithm: "mistralrs", data: take(bin, c.observed_candle) });
    }
  }
  return { nonFinite: cases };
}

function join4(parts) {
  const out = Buffer.alloc(parts.reduce((sum, part) => sum + Math.ceil(part.length / 4) * 4, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += Math.ceil(part.length / 4) * 4;
  }
  return out;
}

const content = { ...packBlockTypes(), ...packTensorTypes(), ...packNonFinite() };
const manifest = Buffer.from(
  JSON.stringify({
    format: "isq-vectors/1",
    source,
    sections: sections.map((section) => section.length),
    ...content,
  }),
);
const length = Buffer.alloc(4);
length.writeUInt32LE(manifest.length);
const data = join4([length, manifest, ...sections]);
const compressed = brotliCompressSync(data, {
  params: {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_SIZE_HINT]: data.length,
  },
});
if (compressed.length > LIMIT_BYTES) throw new Error(`${compressed.length} bytes exceed ${LIMIT_BYTES}`);
writeFileSync(join(target, "vectors.br"), compressed);
console.log(`vectors.br  ${compressed.length} bytes, sha256 ${sha256(compressed)}`);
console.log(`  unpacked  ${data.length} bytes, sha256 ${sha256(data)}, ${sections.length} sections`);
for (const [name, hash] of Object.entries(source)) console.log(`${name}  sha256 ${hash}`);
