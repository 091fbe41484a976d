// What scripts/mutation.mjs mutates, with which tests. Groups keep a run short enough to go on from.
const quants = (files) => files.map((file) => `src/quants/${file}.ts`);
const formats = (files) => files.map((file) => `src/files/${file}.ts`);

const CODECS = ["golden", "layout", "contract", "dot-order"].map((name) =>
  name === "golden" ? "mutation/golden.test.ts" : `test/quants/${name}.test.ts`,
);
const DETAILS = "test/files/malformed-details.test.ts";
const GGUF = [
  DETAILS,
  "test/files/gguf-details.test.ts",
  "test/files/gguf.test.ts",
  "test/files/gguf-malformed.test.ts",
  "test/files/gguf-split.test.ts",
];
const SAFETENSORS = [DETAILS, "test/files/safetensors-details.test.ts", "test/files/safetensors.test.ts"];

/** Parts of names of tests that are not run: they take seconds, for amounts of data. */
export const SKIPPED = [
  "99 MB of",
  "a million tensors",
  "header of megabytes",
  "200,000 tensors",
  "32 kB of anything",
  "the builder",
  "headers longer than one read",
  ...["Q4_1", "Q5_0", "Q5_1", "Q8_1", "Q2K", "Q3K", "Q4K", "Q5K", "Q6K", "Q8K", "HQQ4"].flatMap((type) => [
    `${type} > is read as it was written`,
    `${type} > is read from numbered blobs`,
  ]),
  "runs as the model that it was made of",
  "shards hold whole layers and no more",
];

export const COVERS = ["src/quants", "src/files"];

export const GROUPS = [
  {
    name: "k",
    files: quants(["q2_k", "q3_k", "q6_k", "search", "search-affine", "search-symmetric"]),
    tests: CODECS,
  },
  {
    name: "quants",
    files: [
      ...quants(["block32", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q8_1"]),
      ...quants(["k4", "q4_k", "q5_k", "q8_k", "scales", "superblock"]),
      ...quants(["hqq", "hqq4", "hqq8", "fp8", "check", "codec", "codecs", "index", "table", "tensor"]),
    ],
    tests: CODECS,
  },
  {
    name: "gguf",
    files: formats([
      "gguf",
      "gguf-header",
      "gguf-values",
      "ggml-types",
      "gguf-encode",
      "gguf-place",
      "gguf-split",
      "gguf-write",
    ]),
    tests: GGUF,
  },
  {
    name: "safetensors",
    files: formats([
      "safetensors",
      "safetensors-header",
      "safetensors-quantized",
      "safetensors-write",
      "checkpoint",
    ]),
    tests: SAFETENSORS,
  },
  {
    name: "uqff-imatrix",
    // Models are written as a whole.
    testMs: 600,
    files: [
      ...formats(["uqff", "uqff-blobs", "uqff-layer", "uqff-named", "uqff-report"]),
      ...formats(["imatrix", "imatrix-entry", "imatrix-gguf", "imatrix-write"]),
    ],
    tests: [
      DETAILS,
      "test/files/uqff-report.test.ts",
      "test/files/uqff.test.ts",
      "test/uqff-model.test.ts",
      "test/files/imatrix-details.test.ts",
      "test/imatrix.test.ts",
    ],
  },
  {
    name: "shared",
    files: formats(["cursor", "directory", "http-source", "json", "source", "topology"]),
    tests: [
      DETAILS,
      "test/files/cursor.test.ts",
      "test/files/json.test.ts",
      "test/files/source.test.ts",
      "test/files/http-answers.test.ts",
      "test/files/directory.test.ts",
      "test/files/topology-details.test.ts",
      "test/topology.test.ts",
    ],
  },
];

/** Scores that must not fall, in percent by file: a little below those in docs/mutation.md. */
export const LEAST_SCORE = {
  "src/files/checkpoint.ts": 86,
  "src/files/cursor.ts": 91,
  "src/files/directory.ts": 92,
  "src/files/ggml-types.ts": 91,
  "src/files/gguf-encode.ts": 88,
  "src/files/gguf-header.ts": 87,
  "src/files/gguf-place.ts": 84,
  "src/files/gguf-split.ts": 90,
  "src/files/gguf-values.ts": 99,
  "src/files/gguf-write.ts": 88,
  "src/files/gguf.ts": 93,
  "src/files/http-source.ts": 84,
  "src/files/imatrix-entry.ts": 84,
  "src/files/imatrix-gguf.ts": 90,
  "src/files/imatrix-write.ts": 90,
  "src/files/imatrix.ts": 89,
  "src/files/json.ts": 91,
  "src/files/safetensors-header.ts": 87,
  "src/files/safetensors-quantized.ts": 86,
  "src/files/safetensors-write.ts": 86,
  "src/files/safetensors.ts": 90,
  "src/files/source.ts": 91,
  "src/files/topology.ts": 81,
  "src/files/uqff-blobs.ts": 70,
  "src/files/uqff-layer.ts": 73,
  "src/files/uqff-named.ts": 79,
  "src/files/uqff-report.ts": 93,
  "src/files/uqff.ts": 81,
  "src/quants/block32.ts": 90,
  "src/quants/check.ts": 66,
  "src/quants/codecs.ts": 32,
  "src/quants/fp8.ts": 87,
  "src/quants/hqq.ts": 94,
  "src/quants/hqq4.ts": 99,
  "src/quants/hqq8.ts": 99,
  "src/quants/index.ts": 81,
  "src/quants/k4.ts": 87,
  "src/quants/q2_k.ts": 87,
  "src/quants/q3_k.ts": 90,
  "src/quants/q4_0.ts": 86,
  "src/quants/q4_1.ts": 92,
  "src/quants/q4_k.ts": 92,
  "src/quants/q5_0.ts": 87,
  "src/quants/q5_1.ts": 93,
  "src/quants/q5_k.ts": 88,
  "src/quants/q6_k.ts": 93,
  "src/quants/q8_0.ts": 85,
  "src/quants/q8_1.ts": 87,
  "src/quants/q8_k.ts": 96,
  "src/quants/scales.ts": 93,
  "src/quants/search-affine.ts": 87,
  "src/quants/search-symmetric.ts": 89,
  "src/quants/search.ts": 90,
  "src/quants/superblock.ts": 89,
  "src/quants/table.ts": 99,
  "src/quants/tensor.ts": 67,
};
