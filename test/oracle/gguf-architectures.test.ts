/**
 * The GGUF files that we write, in the published llama.cpp build: each architecture loads there and computes what we compute,
 * and its own quantizer makes the tensors that ours makes.
 *
 * All tokens count, and the bounds are the same for all: 1e-3 in F32, 1e-2 in F16, a divergence of 1e-3 quantized. Where
 * llama.cpp's arithmetic makes a larger difference, ours is compared in that arithmetic (ggml-arithmetic.ts), and what the
 * difference is without is printed. PhiMoE is computed there with the norms and the router of other models.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import type { Program, Router } from "../../src/backends/program.js";
import { reference } from "../../src/backends/reference.js";
import { wasm } from "../../src/backends/wasm.js";
import { klDivergence } from "../../src/divergence.js";
import type { Directory } from "../../src/files/directory.js";
import { openGguf } from "../../src/files/gguf.js";
import { fromBytes } from "../../src/files/source.js";
import { type OpenedModel, openModel } from "../../src/load.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { openTokenizer } from "../../src/model/tokenizer.js";
import { openDirectory } from "../../src/node/directory.js";
import { placeModel } from "../../src/place.js";
import { type PlanRequest, plan } from "../../src/plan.js";
import { dequantize, type IsqType, quantize } from "../../src/quants/index.js";
import { makeCheckpoint, makeVariant } from "../fixtures/architecture.js";
import { splitLatent } from "../gguf-latent-support.js";
import { expectSame, ggufDirectory, toGguf } from "../gguf-support.js";
import { largestDifference } from "../model/support.js";
import { type Llama, openLlama } from "./llama.js";

const emulation = vi.hoisted(() => ({ isPhimoe: false }));

/** The reference with ggml's arithmetic, and with what llama.cpp takes PhiMoE's layer norm for. */
vi.mock("../../src/backends/reference-kernels.js", async (load) => {
  const { ggmlKernels } = await import("./ggml-arithmetic.js");
  const kernels = ggmlKernels(await load<typeof import("../../src/backends/reference-kernels.js")>());
  const centerRun: typeof kernels.centerRun = (x, weight, bias, out, start, epsilon) => {
    if (!emulation.isPhimoe) return kernels.centerRun(x, weight, bias, out, start, epsilon);
    kernels.normRun(x, weight, out, start, weight.length, epsilon);
    for (const [i, value] of bias.entries()) out[start + i] = Math.fround(out[start + i] + value);
  };
  return { ...kernels, centerRun };
});
vi.mock("../../src/backends/reference-linear.js", async (load) => {
  const { ggmlProducts } = await import("./ggml-arithmetic.js");
  return ggmlProducts(await load<typeof import("../../src/backends/reference-linear.js")>());
});

interface Subject {
  readonly open: () => Promise<Directory>;
  /** Tokens, where llama.cpp sees fewer positions or more than the model. */
  readonly tokens?: number;
  /** A type in which two experts rate so closely for a token that the last bit of a sum decides which one is taken. */
  readonly closeIn?: IsqType;
  /** A text instead of any tokens, for trained models. */
  readonly text?: string;
}

const TEXT = "The database connection is closed when the transaction ends, and all locks are released";
const fixture = (name: string, tokens?: number): [string, Subject] => [
  name,
  { open: () => makeCheckpoint(name), ...(tokens !== undefined && { tokens }) },
];
/** Without a rank of the queries llama.cpp takes 27 layers for what V2 Lite is. */
const V2 = {
  ...{ architectures: ["DeepseekV2ForCausalLM"], model_type: "deepseek_v2", topk_method: "greedy" },
  ...{ n_group: 1, topk_group: 1, norm_topk_prob: false, routed_scaling_factor: 1.5 },
};
const YARN = { rope_type: "yarn", factor: 8, original_max_position_embeddings: 32, rope_theta: 10000 };
const SUBJECTS: readonly [string, Subject][] = [
  ["tiny-mistral", { open: () => openDirectory("models/tiny-mistral"), text: TEXT }],
  ["tiny-mixtral", { open: () => openDirectory("models/tiny-mixtral"), text: TEXT }],
  ...["llama", "llama-tied", "mixtral", "phi2", "phi3", "qwen2", "qwen3", "qwen2moe"].map((name) =>
    fixture(name),
  ),
  // llama.cpp has no windows for these two: within them all see the same.
  fixture("mistral", 16),
  fixture("phi3-short", 24),
  ...["qwen3moe", "gemma", "gemma2", "gemma3", "starcoder2", "olmo2", "granite", "gpt2", "deepseekv3"].map(
    (name) => fixture(name),
  ),
  fixture("phi3.5moe"),
  ["deepseekv2", { open: () => makeVariant("deepseekv3", V2) }],
  ["smollm3", { open: () => makeVariant("smollm3", { no_rope_layers: null, layer_types: null }, 4) }],
  ["llama, yarn", { open: () => makeVariant("llama", { rope_parameters: YARN }) }],
  [
    "deepseekv3, yarn",
    {
      open: () => makeVariant("deepseekv3", { rope_parameters: { ...YARN, mscale: 1, mscale_all_dim: 1 } }),
      closeIn: "Q8_0",
    },
  ],
];
/** Where activations rounded to F16 make the difference, and GELU's table. */
const HAS_HALF = /^(deepseek|smollm3)/;
const HAS_GELU = /^(phi2|gemma|starcoder2|gpt2)/;

/** llama.cpp's numbers of file types. */
const TYPES = [
  ...([
    ["Q4_0", 2],
    ["Q4_1", 3],
    ["Q8_0", 7],
    ["Q5_0", 8],
    ["Q5_1", 9],
  ] as const),
  ...([
    ["Q2K", 10],
    ["Q3K", 12],
    ["Q4K", 15],
    ["Q5K", 17],
    ["Q6K", 18],
  ] as const),
];
/** Everything takes minutes: without it each architecture has two of the types, and tiny-mistral all. */
const slow = process.env["ISQ_SLOW"] === "1";

let llama: Llama;
let folder: string;
beforeAll(async () => {
  llama = await openLlama();
  folder = mkdtempSync(join(tmpdir(), "isq-llama-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Our logits, from the file. */
async function ours(
  bytes: Uint8Array,
  tokens: readonly number[],
  backend: Promise<Backend> = wasm(),
  change = (program: Program) => program,
): Promise<Float32Array> {
  const opened = await openModel(ggufDirectory(bytes), { gguf: "model.gguf" });
  const { checkpoint, sourceOf } = opened;
  const program = change(opened.program);
  const session = await (await backend).open(program, { cachePositions: 64 });
  await placeModel(plan(program, sourceOf, { type: null }), checkpoint, await backend, session);
  return new LanguageModel(program, session, { cachePositions: 64 }).logits(tokens);
}

/** The same as llama.cpp computes it. */
async function emulated(
  bytes: Uint8Array,
  tokens: readonly number[],
  isPhimoe: boolean,
): Promise<Float32Array> {
  emulation.isPhimoe = isPhimoe;
  const router: Router = { kind: "scores", scores: "softmax", normalize: { epsilon: 0 }, scale: 1 };
  const change = (program: Program): Program => ({
    ...program,
    ops: program.ops.map((op) => (isPhimoe && op.kind === "route" ? { ...op, router } : op)),
  });
  return ours(bytes, tokens, Promise.resolve(reference()), change);
}

function theirs(bytes: Uint8Array, tokens: readonly number[]): Float32Array {
  const file = join(folder, "model.gguf");
  writeFileSync(file, bytes);
  const model = llama.load(file);
  try {
    return model.logits(tokens);
  } finally {
    model.free();
  }
}

/** The mean over all tokens. */
function meanDivergence(a: Float32Array, b: Float32Array, vocabulary: number): number {
  const { divergence } = klDivergence(a, b, vocabulary);
  return divergence.reduce((sum, value) => sum + value) / divergence.length;
}

describe.each(SUBJECTS)("%s", (name, { open, tokens: count = 40, text, closeIn }) => {
  const isPhimoe = name === "phi3.5moe";
  let opened: OpenedModel;
  let tokens: readonly number[] = Array.from({ length: count }, (_, i) => (i * 37 + 11) % 256);
  beforeAll(async () => {
    opened = await openModel(await open());
    if (text === undefined) return;
    const tokenizer = await openTokenizer(opened.directory, opened.config);
    tokens = tokenizer.encode(text);
  });

  const note = (figure: string) => console.log(`${name}: ${figure}`);
  const asTheirs = (bytes: Uint8Array) => emulated(bytes, tokens, isPhimoe);

  test("F32 agrees", async () => {
    const bytes = await toGguf(opened, { dense: "F32" });
    const found = theirs(bytes, tokens);
    const plain = largestDifference(found, await ours(bytes, tokens));
    if (!HAS_GELU.test(name) && !isPhimoe) {
      note(`F32 ${plain.toExponential(1)}`);
      expect(plain).toBeLessThan(1e-3);
      return;
    }
    const difference = largestDifference(found, await asTheirs(bytes));
    note(`F32 ${difference.toExponential(1)} (not emulated ${plain.toExponential(1)})`);
    expect(difference).toBeLessThan(1e-3);
    if (isPhimoe) expect(plain).toBeGreaterThan(1);
    else expect(plain).toBeLessThan(1e-2);
  });

  test("F16 agrees", async () => {
    const bytes = await toGguf(opened, { dense: "F16" });
    const found = theirs(bytes, tokens);
    const mine = await ours(bytes, tokens);
    // The same values in F32 are the same to us, and to llama.cpp what we compute.
    const reopened = await openModel(ggufDirectory(bytes), { gguf: "model.gguf" });
    const wide = await toGguf(reopened, { dense: "F32" });
    const foundWide = theirs(wide, tokens);
    expectSame(await ours(wide, tokens), mine);
    const isOther = isPhimoe || HAS_GELU.test(name);
    expect(largestDifference(foundWide, isOther ? await asTheirs(wide) : mine)).toBeLessThan(1e-3);
    const plain = largestDifference(found, isPhimoe ? await asTheirs(bytes) : mine);
    if (!HAS_HALF.test(name)) {
      note(`F16 ${plain.toExponential(1)}`);
      expect(plain).toBeLessThan(1e-2);
      return;
    }
    const difference = largestDifference(found, await asTheirs(bytes));
    const own = largestDifference(found, foundWide);
    const figures = [plain, own].map((value) => value.toExponential(1));
    note(
      `F16 ${difference.toExponential(1)} (not emulated ${figures[0]}, of which ${figures[1]} is the rounding)`,
    );
    expect(difference).toBeLessThan(1e-2);
    expect(plain).toBeLessThan(own + 1e-3);
  });

  const index = SUBJECTS.findIndex(([other]) => other === name);
  const all = slow || name === "tiny-mistral";
  const some = TYPES.map(([type]) => type).filter(
    (type, i) => all || i % 5 === index % 5 || type === closeIn,
  );

  test.each(some)("%s agrees", async (type) => {
    const bytes = await toGguf(opened, { type, dense: "F32" });
    const { vocabulary } = opened.program;
    const found = theirs(bytes, tokens);
    const isClose = type === closeIn;
    const mine = isPhimoe || isClose ? await asTheirs(bytes) : await ours(bytes, tokens);
    const mean = meanDivergence(found, mine, vocabulary);
    const plain = isClose ? meanDivergence(found, await ours(bytes, tokens), vocabulary) : mean;
    note(`${type} KL ${mean.toExponential(1)}${isClose ? ` (not emulated ${plain.toExponential(1)})` : ""}`);
    expect(mean).toBeLessThan(1e-3);
  });

  const types = TYPES.filter(([type]) => some.includes(type));
  test(`llama_model_quantize makes the same tensors of ${types.map(([type]) => type)}`, async () => {
    const source = await toGguf(opened, { dense: "F16" });
    const [from, to] = [join(folder, "f16.gguf"), join(folder, "quantized.gguf")];
    writeFileSync(from, source);
    const reopened = await openModel(ggufDirectory(source), { gguf: "model.gguf" });
    for (const [type, fileType] of types) {
      llama.quantize(from, to, fileType);
      const topology: PlanRequest["topology"] = [{ pattern: /embed_tokens|wte/, isq: type }];
      const made = await openGguf(fromBytes(await toGguf(reopened, { type, topology })));
      const other = await openGguf(fromBytes(new Uint8Array(readFileSync(to))));
      expect([...made.tensors.keys()].sort()).toEqual([...other.tensors.keys()].sort());
      for (const [tensor, { dtype, shape }] of other.tensors) {
        expect(made.tensors.get(tensor)).toMatchObject({ dtype, shape });
        expectSame(await made.read(tensor), await other.read(tensor));
      }
      expect(made.tensors.get("token_embd.weight")!.dtype).toMatch(/^Q/);
    }
  });
});

test("deepseek2 with split keys and values", async () => {
  const opened = await openModel(await makeCheckpoint("deepseekv3"));
  const tokens = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 256);
  const whole = await toGguf(opened, { dense: "F32" });
  const bytes = await splitLatent(whole);
  const found = theirs(bytes, tokens);
  expect(largestDifference(found, await ours(bytes, tokens))).toBeLessThan(1e-3);
  expect(largestDifference(found, theirs(whole, tokens))).toBeLessThan(1e-3);

  // Quantized halves are one F32 matrix to us: to llama.cpp it is what we compute, as halves of the same values in F32.
  const quantized = await splitLatent(whole, "Q8_0");
  const decoded = await splitLatent(whole, undefined, (piece) => {
    if (!/attn_[kv]_b/.test(piece.name)) return piece;
    const shape = [piece.data.byteLength / 128, 32];
    const values = new Float32Array(piece.data.slice().buffer);
    return { ...piece, data: new Uint8Array(dequantize(quantize("Q8_0", values, { shape })).buffer) };
  });
  const mine = await ours(quantized, tokens);
  expect(largestDifference(theirs(decoded, tokens), mine)).toBeLessThan(1e-3);
  const mean = meanDivergence(theirs(quantized, tokens), mine, opened.program.vocabulary);
  console.log(`split, Q8_0 KL ${mean.toExponential(1)} from products that quantize activations too`);
});
