/** The commands about files, as a user runs them: the built command in a process of its own. */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { narrow } from "../src/dense.js";
import { openGguf } from "../src/files/gguf.js";
import type { GgufValue } from "../src/files/gguf-values.js";
import { layoutGguf } from "../src/files/gguf-write.js";
import { openSafetensors, writeSafetensors } from "../src/files/safetensors.js";
import { fromBytes } from "../src/files/source.js";
import { compileModel } from "../src/model/architectures/index.js";
import { parseConfig } from "../src/model/config.js";
import { NUMERICS_PROFILE, VERSION } from "../src/version.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MODEL = ["-m", "models/tiny-mistral"];
const folder = mkdtempSync(join(tmpdir(), "isq-"));
const at = (name: string) => join(folder, name);

function isq(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["dist/cli/main.js", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

const sha256 = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

beforeAll(() => {
  expect(isq("quantize", ...MODEL, "--isq", "Q4K", "-o", at("q4k.gguf")).status).toBe(0);
  expect(isq("quantize", ...MODEL, "--isq", "HQQ4", "-o", at("hqq4.safetensors")).status).toBe(0);
});

describe("quantize", () => {
  test("the version is that of the package", () => {
    expect(VERSION).toBe(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version);
  });

  test("the file says how it was made, and from what", async () => {
    const source = sha256(join(root, "models/tiny-mistral/model.safetensors"));
    const { metadata } = await openGguf(fromBytes(readFileSync(at("q4k.gguf"))));
    const text = (key: string) => {
      const entry = metadata.get(key);
      return entry?.type === "string" ? entry.value : undefined;
    };
    expect(text("isq.version")).toBe(VERSION);
    expect(text("isq.numerics")).toBe(NUMERICS_PROFILE);
    expect(text("isq.algorithm")).toBe("default");
    expect(text("isq.encoders")).toBe("Q4K=ggml");
    expect(text("isq.sources")).toBe(`${source}:model.safetensors`);
    expect(text("isq.plan")).toMatch(/^[0-9a-f]{64}$/);
    const tensors = await openSafetensors(fromBytes(readFileSync(at("hqq4.safetensors"))));
    expect(tensors.metadata.get("isq.encoders")).toBe("HQQ4=mistralrs");
    expect(tensors.metadata.get("isq.sources")).toBe(`${source}:model.safetensors`);
  });

  test.each([
    ["--backend", "wasm"],
    ["--backend", "threads", "--threads", "1"],
    ["--backend", "threads", "--threads", "3"],
  ])("the same bytes with %s %s %s %s", (...args) => {
    const output = at(`${args.join("")}.gguf`);
    expect(isq("quantize", ...MODEL, "--isq", "q4_k", "-o", output, ...args).status).toBe(0);
    expect(sha256(output)).toBe(sha256(at("q4k.gguf")));
  });

  test("a dry run shows the plan and the cost, and writes nothing", () => {
    const before = readdirSync(folder);
    const { status, stdout } = isq("quantize", ...MODEL, "--isq", "Q4K", "-o", at("dry.gguf"), "--dry-run");
    expect(status).toBe(0);
    expect(stdout).toContain("model.layers.0.self_attn.q_proj.weight");
    expect(stdout).toMatch(/bits per weight/);
    expect(stdout).toMatch(/dry\.gguf: \d+ bytes; tensors take at most \d+ bytes of memory/);
    const json = isq("quantize", ...MODEL, "--isq", "Q4K", "-o", at("dry.gguf"), "--dry-run", "--json");
    const planned = JSON.parse(json.stdout);
    expect(planned.plan.totals.quantizedTensors).toBe(43);
    expect(planned.peakByteLength).toBeLessThan(2 ** 23);
    expect(readdirSync(folder)).toEqual(before);
  });

  test("a GGUF file is a model, too: to another type, and copied as it is", () => {
    expect(isq("quantize", "-m", at("q4k.gguf"), "--isq", "Q8_0", "-o", at("q8.gguf")).status).toBe(0);
    const copied = isq("quantize", "-m", at("q4k.gguf"), "-o", at("copy.gguf"));
    expect([copied.status, copied.stdout.includes("43 of 57")]).toEqual([0, true]);
    const diff = isq("diff", at("q4k.gguf"), at("copy.gguf"), "--tensors");
    expect([diff.status, diff.stdout]).toEqual([0, "the same tensors\n"]);
  });

  test.each([
    ["another ending", [...MODEL, "-o", at("x.bin")], /\.gguf or \.safetensors or \.uqff/],
    ["a file that is there", [...MODEL, "--isq", "Q4K", "-o", at("q4k.gguf")], /is there already/],
    ["a type that GGUF lacks", [...MODEL, "--isq", "HQQ8", "-o", at("x.gguf")], /HQQ8, which GGUF cannot/],
    ["its own source", ["-m", at("q4k.gguf"), "-o", at("q4k.gguf"), "--force"], /is read; choose another/],
    ["a folder that is not there", [...MODEL, "-o", at("no/such.gguf")], /no\/such\.gguf: cannot/],
    ["no output", [...MODEL], /--output/],
  ])("%s is one sentence", (_what, args, message) => {
    const before = readdirSync(folder);
    const { status, stderr } = isq("quantize", ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(readdirSync(folder)).toEqual(before);
  });

  test("strict refuses a substitution and writes nothing", async () => {
    const model = await writeNarrowModel();
    const plain = isq("quantize", "-m", model, "--isq", "Q4K", "-o", at("narrow.gguf"));
    expect([plain.status, existsSync(at("narrow.gguf"))]).toEqual([0, true]);
    const strict = isq("quantize", "-m", model, "--isq", "Q4K", "-o", at("strict.gguf"), "--strict");
    expect(strict.status).toBe(2);
    expect(strict.stderr).toMatch(/down_proj.*288.*strict/);
    expect(readdirSync(folder).filter((file) => file.startsWith("strict"))).toEqual([]);
  });
});

/** A model with rows of 288, which are no whole blocks of K types. */
async function writeNarrowModel(): Promise<string> {
  const model = mkdtempSync(join(tmpdir(), "isq-"));
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 256,
    intermediate_size: 288,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    vocab_size: 32,
    max_position_embeddings: 64,
    tie_word_embeddings: true,
  };
  writeFileSync(join(model, "config.json"), JSON.stringify(config));
  const { weights } = compileModel(parseConfig(JSON.stringify(config), "config.json"));
  const tensors = weights
    .filter(({ tiedTo }) => tiedTo === undefined)
    .map(({ name, shape }) => {
      const values = Float32Array.from(
        { length: shape.reduce((a, b) => a * b) },
        (_, i) => ((i * 37) % 64) / 64,
      );
      return { name, dtype: "F16", shape, data: narrow(values, "F16") };
    });
  writeFileSync(join(model, "model.safetensors"), writeSafetensors(tensors));
  return model;
}

describe("inspect", () => {
  test("lists metadata and tensors", () => {
    const { status, stdout } = isq("inspect", at("q4k.gguf"), "--hash");
    expect(status).toBe(0);
    expect(stdout).toContain("gguf, ");
    expect(stdout).toContain('general.architecture (string) = "llama"');
    expect(stdout).toMatch(/blk\.0\.attn_q\.weight +Q4K +\[256, 256\] +4\.500 +36864 +[0-9a-f]{64}/);
  });

  test.each([
    ["GGUF", "q4k.gguf"],
    ["safetensors", "hqq4.safetensors"],
  ])("as JSON, the hashes of %s are those of its bytes", (_, name) => {
    const bytes = readFileSync(at(name));
    const { tensors, byteLength } = JSON.parse(isq("inspect", at(name), "--json").stdout);
    expect(byteLength).toBe(bytes.byteLength);
    expect(tensors.length).toBeGreaterThan(56);
    for (const { byteOffset, byteLength: length, sha256: hash } of tensors) {
      const piece = bytes.subarray(byteOffset, byteOffset + length);
      expect(hash).toBe(createHash("sha256").update(piece).digest("hex"));
    }
  });

  test("quantized tensors of safetensors have their type and shape", () => {
    const { tensors } = JSON.parse(isq("inspect", at("hqq4.safetensors"), "--json").stdout);
    const name = "model.layers.0.mlp.up_proj.weight";
    const found = tensors.find((tensor: { name: string }) => tensor.name === name);
    expect(found).toMatchObject({ type: "HQQ4", algorithm: "mistralrs", shape: [expect.any(Number), 256] });
  });

  test("names and texts of files cannot drive a terminal", () => {
    const [name, text] = ["a\u001b[2J\u202eb", "\u009b2J"];
    const tensor = { name, dtype: "F32", shape: [1], data: new Uint8Array(4) } as const;
    writeFileSync(at("escapes.safetensors"), writeSafetensors([tensor], { [name]: text }));
    const [shown, compared] = [
      isq("inspect", at("escapes.safetensors")),
      isq("diff", at("escapes.safetensors"), at("q4k.gguf")),
    ];
    for (const { stdout } of [shown, compared]) {
      expect(stdout).toContain("a\\u001b[2J\\u202eb");
      for (const character of "\u001b\u009b\u202e") expect(stdout).not.toContain(character);
    }
  });

  test("numbers that JSON does not have are told as texts", () => {
    const metadata = new Map<string, GgufValue>([
      ["a", { type: "f32", value: Number.NaN }],
      ["b", { type: "array", items: "f64", values: Float64Array.of(1, Number.NEGATIVE_INFINITY) }],
      ["c", { type: "u64", value: 2n ** 64n - 1n }],
    ]);
    writeFileSync(at("numbers.gguf"), layoutGguf(metadata, []).header);
    const { stdout } = isq("inspect", "--json", at("numbers.gguf"));
    const values = JSON.parse(stdout).metadata.map(({ value }: { value: unknown }) => value);
    expect(values).toEqual(["NaN", [1, "-Infinity"], "18446744073709551615"]);
  });

  test("a folder is its files", () => {
    const { stdout } = isq("inspect", "models/tiny-mistral");
    expect(stdout).toMatch(/model\.safetensors: safetensors, \d+ bytes, 57 tensors \(57 BF16\)/);
  });
});

describe("verify", () => {
  test("whole files are whole", () => {
    for (const path of [at("q4k.gguf"), at("hqq4.safetensors"), "models/tiny-mistral"]) {
      const { status, stdout } = isq("verify", path);
      expect([status, stdout.includes("whole")]).toEqual([0, true]);
    }
  });

  test("as JSON", () => {
    const { status, stdout } = isq("verify", "--json", at("q4k.gguf"));
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([{ file: at("q4k.gguf"), format: "gguf", whole: true }]);
  });

  test.each([
    ["a cut file", (bytes: Buffer) => bytes.subarray(0, bytes.length - 40), /ends/],
    ["an empty file", () => Buffer.alloc(0), /ends|takes|bytes/],
    [
      "a damaged header",
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, 8), Buffer.alloc(64, 0xff)]),
      /./,
    ],
    ["another format", () => Buffer.from("{}"), /magic|GGUF|start/],
  ])("%s is refused", (_what, damage, message) => {
    writeFileSync(at("damaged.gguf"), damage(readFileSync(at("q4k.gguf"))));
    const { status, stderr, stdout } = isq("verify", at("damaged.gguf"));
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(message);
  });

  test.each([
    ["g23-good", [0, "", true]],
    ["g23-missing", [2, expect.stringMatching(/shard m-00002-of-00002\.gguf is missing/), false]],
    ["g23-wrong-count", [2, expect.stringMatching(/split\.count/), false]],
    ["g23-tensor-in-two", [2, expect.stringMatching(/"a"/), false]],
  ] as const)("the set of a shard: %s", (name, expected) => {
    const shard = `test/malformed/gguf/${name}/m-00001-of-00002.gguf`;
    const { status, stdout, stderr } = isq("verify", shard);
    expect([status, stderr, stdout.includes("whole")]).toEqual(expected);
  });

  test("a file of no known format says what is known", () => {
    const { status, stderr } = isq("verify", "package.json");
    expect(status).toBe(2);
    expect(stderr).toContain("gguf, uqff, safetensors");
  });
});

describe("diff", () => {
  test("a file is the same as itself", () => {
    const { status, stdout } = isq("diff", at("q4k.gguf"), at("q4k.gguf"));
    expect([status, stdout]).toEqual([0, "the same metadata and tensors\n"]);
  });

  test("tells types and values, and exits with 1", () => {
    expect(isq("quantize", ...MODEL, "--isq", "Q8_0", "-o", at("eight.gguf")).status).toBe(0);
    const { status, stdout } = isq("diff", at("q4k.gguf"), at("eight.gguf"), "--values");
    expect(status).toBe(1);
    expect(stdout).toContain('metadata isq.encoders: "Q4K=ggml" | "Q8_0=ggml"');
    const line =
      /tensor blk\.0\.attn_q\.weight: type: Q4K \[256, 256\] \| Q8_0 .* at most, (\S+) relative/.exec(stdout);
    expect(Number(line?.[1])).toBeGreaterThan(0.01);
    expect(Number(line?.[1])).toBeLessThan(0.2);
    expect(stdout).not.toContain("attn_norm");
  });

  test("finds one changed byte, in the tensor that has it", () => {
    const bytes = readFileSync(at("q4k.gguf"));
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(at("changed.gguf"), bytes);
    const { status, stdout } = isq("diff", at("q4k.gguf"), at("changed.gguf"), "--json");
    expect(status).toBe(1);
    const { tensors, metadata } = JSON.parse(stdout);
    expect(metadata).toEqual([]);
    expect(tensors.map(({ name, what }: { name: string; what: string }) => [name, what])).toEqual([
      ["output.weight", "bytes"],
    ]);
  });

  test("a GGUF file and a safetensors file can be compared", () => {
    const { status, stdout } = isq("diff", at("q4k.gguf"), at("hqq4.safetensors"));
    expect([status, stdout.includes("only in the second")]).toEqual([1, true]);
  });
});
