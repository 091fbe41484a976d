/** Types of a running model changed: from every type to every type, layer by layer, with texts running and things going wrong. */

import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Backend, Session, Tensor } from "../src/backends/backend.js";
import { CACHE_BLOCK } from "../src/backends/program.js";
import { reference } from "../src/backends/reference.js";
import { threads } from "../src/backends/threads.js";
import { wasm } from "../src/backends/wasm.js";
import { placeAsAsked } from "../src/calibrated-load.js";
import { IsqError } from "../src/errors.js";
import type { Directory } from "../src/files/directory.js";
import { readFile } from "../src/files/directory.js";
import { openModel } from "../src/load.js";
import { LanguageModel } from "../src/model/language-model.js";
import { openDirectory } from "../src/node/directory.js";
import type { PlanRequest } from "../src/plan.js";
import { type IsqType, type QuantizedTensor, TYPE_NAMES } from "../src/quants/index.js";
import type { ReIsqFailure, ReIsqProgress } from "../src/re-isq.js";
import { ModelWeights } from "../src/weights.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { bits } from "./model/support.js";
import { compareTensors } from "./suites/compare-tensors.js";

const TOKENS = [5, 77, 200, 13, 5];
const LAYERS = 2;
const MATRICES = 7;

interface Opened {
  readonly weights: ModelWeights;
  readonly language: LanguageModel;
  /** A weight as it runs, by a part of its name. */
  read(part: string): Promise<QuantizedTensor>;
  logits(): Promise<Uint32Array>;
  close(): Promise<void>;
}

/** A model of two layers with a tied head, loaded as a builder does it, without a tokenizer. */
async function load(
  backend: Backend,
  request: PlanRequest,
  directory: Directory | Promise<Directory> = makeCheckpoint("llama-tied"),
): Promise<Opened> {
  const opened = await openModel(await directory);
  const cachePositions = 128 + CACHE_BLOCK;
  const session = await backend.open(opened.program, { cachePositions });
  const language = new LanguageModel(opened.program, session, { cachePositions });
  const tokenizer = undefined as never;
  const loading = { opened, backend, session, language, tokenizer };
  const { report } = await placeAsAsked(loading, request, null, {});
  const weights = new ModelWeights({ ...loading, report, request });
  return {
    weights,
    language,
    async read(part) {
      const { weight } = weights.plan.rows.find(({ tensor }) => tensor.includes(part))!;
      return (await language.between((running) => running.read(weight))) as QuantizedTensor;
    },
    logits: async () => bits(await language.logits(TOKENS)),
    async close() {
      await language.dispose();
      await opened.checkpoint.close();
    },
  };
}

/** Logits of a model that was loaded like this in the first place. */
async function logitsOf(backend: Backend, request: PlanRequest): Promise<Uint32Array> {
  const fresh = await load(backend, request);
  const logits = await fresh.logits();
  await fresh.close();
  return logits;
}

const typesOf = ({ plan }: ModelWeights, layer: number | null) =>
  plan.rows.filter((row) => row.layer === layer && row.role !== "norm").map(({ type }) => type);

/** Every ordered pair of types once, as a closed walk: at each stop the smallest step that was not taken there. */
function walkOfAllPairs(): IsqType[] {
  const count = TYPE_NAMES.length;
  const walk = [0];
  for (let step = 1; step < count; step++) {
    // Steps of one size fall into cycles; going around each of them takes every pair at that distance.
    const seen = new Set<number>();
    for (let start = 0; start < count; start++) {
      for (let at = start; !seen.has(at); at = (at + step) % count) {
        seen.add(at);
        walk.push(at, (at + step) % count);
      }
    }
  }
  return walk.map((index) => TYPE_NAMES[index]);
}

describe("from resident weights", () => {
  // All but a few tensors stay as they are, so that the walk is short.
  const topology = [{ pattern: /layers\.1|mlp|[ko]_proj/, isq: "none" }] as const;

  it("every type becomes every other, with the bytes of quantizing what the old one decodes to", async () => {
    const backend = await wasm();
    const walk = walkOfAllPairs();
    const pairs = new Set(walk.slice(1).map((type, i) => `${walk[i]} ${type}`));
    expect(TYPE_NAMES.every((a) => TYPE_NAMES.every((b) => a === b || pairs.has(`${a} ${b}`)))).toBe(true);
    const model = await load(backend, { type: walk[0], topology });
    let before = await model.read("layers.0.self_attn.q_proj");
    for (const type of walk.slice(1)) {
      const same = type === before.type;
      const report = await model.weights.reIsq(type, { from: "resident" });
      expect(report.tensors.length).toBe(same ? 0 : 3);
      const { shape } = before;
      const wanted = same
        ? before
        : await backend.quantize(type, await backend.dequantize(before), { shape });
      before = await model.read("layers.0.self_attn.q_proj");
      expect(compareTensors(before, wanted)).toBeUndefined();
    }
    expect((await model.language.logits(TOKENS)).every(Number.isFinite)).toBe(true);
    await model.close();
    await backend.dispose();
  });

  it("is from the source again when it is asked for, and the plan says what runs", async () => {
    const backend = await wasm();
    const model = await load(backend, { type: "Q2K" });
    const report = await model.weights.reIsq("Q8_0", { from: "resident" });
    expect(report).toMatchObject({ from: "resident", reason: null, failures: [] });
    expect(report.plan).toBe(model.weights.plan);
    const compounded = await model.logits();
    expect(report.plan.rows.find(({ tensor }) => tensor.includes("q_proj"))!.source.type).toBe("Q2K");
    const again = await model.weights.reIsq("Q8_0");
    expect([again.from, again.tensors.length]).toEqual(["source", LAYERS * MATRICES + 1]);
    const fresh = await logitsOf(backend, { type: "Q8_0" });
    expect(await model.logits()).toEqual(fresh);
    expect(compounded).not.toEqual(fresh);
    expect((await model.weights.reIsq("Q8_0")).tensors).toEqual([]);
    await model.close();
    await backend.dispose();
  });

  it("is the same on threads", async () => {
    const [one, pool] = [await wasm(), await threads({ workers: 2 })];
    const results = [];
    for (const backend of [one, pool]) {
      const model = await load(backend, { type: "Q4K" });
      for (const type of ["HQQ4", "FP8", "Q6K"]) await model.weights.reIsq(type, { from: "resident" });
      results.push(await model.logits());
      await model.close();
      await backend.dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });
});

/** A backend whose sessions do something before they place, commit or run. */
function watched(
  inner: Backend,
  watch: {
    place?: (weight: number, tensor: Tensor, session: Session) => void | Promise<void>;
    commit?: (session: Session) => void;
    run?: (session: Session) => void | Promise<void>;
  },
): Backend {
  return {
    ...inner,
    async open(program, options) {
      const session = await inner.open(program, options);
      return {
        ...session,
        async place(weight, tensor) {
          await watch.place?.(weight, tensor, session);
          await session.place(weight, tensor);
        },
        commit() {
          watch.commit?.(session);
          return session.commit();
        },
        async run(batch, signal) {
          await watch.run?.(session);
          return session.run(batch, signal);
        },
      };
    },
  };
}

describe("while texts run", () => {
  it("every step sees each layer whole, old or new, and the text goes on through the change", async () => {
    const seen: string[] = [];
    let model: Opened | undefined;
    const backend = watched(reference(), {
      // Long enough that a step waits for its turn meanwhile.
      place: () => (model ? new Promise((resolve) => setTimeout(resolve, 30)) : undefined),
      async run(session) {
        if (!model) return;
        const layers = [];
        for (const layer of [0, 1]) {
          const rows = model.weights.plan.rows.filter((row) => row.layer === layer && row.role === "linear");
          const types = await Promise.all(rows.map(async ({ weight }) => (await session.read(weight)).type));
          layers.push([...new Set(types)].join("+"));
        }
        seen.push(layers.join(" "));
      },
    });
    model = await load(backend, { type: "Q4_0" });
    const tokens: number[] = [];
    let changed = false;
    const change = model.weights.reIsq("Q5_0").then(() => {
      changed = true;
    });
    for await (const token of model.language.stream(TOKENS, { maxTokens: 100 })) {
      tokens.push(token);
      if (changed) break;
    }
    await change;
    await model.language.logits(TOKENS);
    expect([...new Set(seen)].sort()).toEqual(["Q4_0 Q4_0", "Q5_0 Q4_0", "Q5_0 Q5_0"]);
    expect(tokens.length).toBeGreaterThan(MATRICES);
    await model.close();
  });

  it("changes take turns, and each is told of its progress", async () => {
    const model = await load(reference(), { type: null });
    const told: ReIsqProgress[] = [];
    const both = [
      model.weights.reIsq("Q8_0"),
      model.weights.reIsq("Q4_0", { onProgress: (progress) => told.push(progress) }),
    ];
    const [first, second] = await Promise.all(both);
    expect(first.tensors.every(({ type }) => type === "Q8_0")).toBe(true);
    expect(second.tensors.every(({ type }) => type === "Q4_0")).toBe(true);
    const total = LAYERS * MATRICES + 1;
    expect(told.map(({ done }) => done)).toEqual(Array.from({ length: total }, (_, i) => i + 1));
    expect(told.at(-1)).toMatchObject({ done: total, total, layersDone: LAYERS, layers: LAYERS + 1 });
    expect(told.every(({ row, layersDone }) => layersDone === (row.layer ?? 2))).toBe(true);
    expect(await model.logits()).toEqual(await logitsOf(reference(), { type: "Q4_0" }));
    await model.close();
  });
});

describe("when something goes wrong", () => {
  const failing = (backend: Backend, error: unknown, when: (tensor: Tensor, weight: number) => boolean) => {
    let armed = true;
    const place = (weight: number, tensor: Tensor) => {
      if (!armed || !when(tensor, weight)) return;
      throw error;
    };
    return { backend: watched(backend, { place }), disarm: () => (armed = false) };
  };
  const full = new IsqError("backend/memory", "the memory is full", { value: 1 });
  /** The sixth matrix of the first layer. */
  const isVictim = ({ type, shape }: Tensor, weight: number) =>
    type === "Q8_0" && weight === 8 && shape.length === 2;

  it.each([
    ["reference", reference],
    ["wasm", wasm],
    ["threads", () => threads({ workers: 2 })],
  ] as const)("a layer keeps all of its old weights, the others change: %s", async (_name, make) => {
    const inner = await make();
    const { backend, disarm } = failing(inner, full, isVictim);
    const model = await load(backend, { type: "Q4_0" });
    const victim = model.weights.plan.rows[8];
    expect([victim.layer, victim.role]).toEqual([0, "linear"]);
    const error = await model.weights.reIsq("Q8_0").catch((thrown) => thrown);
    expect(error).toMatchObject({ tag: "reisq/failed" });
    expect(error.message).toMatch(/layer 0 kept the old weights: the memory is full/);
    const failures: ReIsqFailure[] = error.details.failures;
    expect(failures).toEqual([{ layer: 0, tensor: victim.tensor, error: full.toJSON() }]);
    expect(JSON.parse(JSON.stringify(error)).details.report.tensors).toHaveLength(MATRICES + 1);

    expect(new Set(typesOf(model.weights, 0))).toEqual(new Set(["Q4_0"]));
    expect(new Set(typesOf(model.weights, 1))).toEqual(new Set(["Q8_0"]));
    const mixed = [{ layers: { start: 0, end: 1 }, isq: "Q4_0" as const }];
    expect(await model.logits()).toEqual(await logitsOf(inner, { type: "Q8_0", topology: mixed }));

    disarm();
    const repaired = await model.weights.reIsq("Q8_0");
    expect(repaired.tensors.map(({ layer }) => layer)).toEqual(new Array(MATRICES).fill(0));
    expect(await model.logits()).toEqual(await logitsOf(inner, { type: "Q8_0" }));
    await model.close();
    await inner.dispose();
  });

  it("also when it is no error of ours, or when only the swap fails", async () => {
    const { backend } = failing(reference(), new RangeError("Array buffer allocation failed"), isVictim);
    const model = await load(backend, { type: "Q4_0" });
    const error = await model.weights.reIsq("Q8_0").catch((thrown) => thrown);
    expect(error.details.failures).toMatchObject([
      { layer: 0, error: { tag: null, message: "Array buffer allocation failed" } },
    ]);
    await model.close();

    let commits = 0;
    const commit = () => {
      if (++commits === 2) throw new IsqError("backend/worker", "gone");
    };
    const other = await load(watched(reference(), { commit }), { type: "Q4_0" });
    const swapped = await other.weights.reIsq("Q8_0").catch((thrown) => thrown);
    expect(swapped.details.failures).toMatchObject([
      { layer: 1, tensor: null, error: { tag: "backend/worker" } },
    ]);
    expect(new Set(typesOf(other.weights, 1))).toEqual(new Set(["Q4_0"]));
    await other.close();
  });

  it("an abort leaves whole layers, and the plan tells which", async () => {
    const abort = new AbortController();
    const model = await load(reference(), { type: "Q4_0" });
    const onProgress = ({ done }: ReIsqProgress) => done === MATRICES + 3 && abort.abort("enough");
    const stopped = model.weights.reIsq("Q8_0", { signal: abort.signal, onProgress });
    await expect(stopped).rejects.toMatchObject({ tag: "aborted" });
    expect(new Set(typesOf(model.weights, 0))).toEqual(new Set(["Q8_0"]));
    expect(new Set(typesOf(model.weights, 1))).toEqual(new Set(["Q4_0"]));
    const mixed = [{ layers: { start: 0, end: 1 }, isq: "Q8_0" as const }];
    expect(await model.logits()).toEqual(await logitsOf(reference(), { type: "Q4_0", topology: mixed }));
    expect((await model.weights.reIsq("Q8_0")).tensors).toHaveLength(MATRICES + 1);
    await model.close();
  });

  it("unknown types and strict plans change nothing", async () => {
    const model = await load(reference(), { type: "Q4_0", strict: true });
    const before = model.weights.plan;
    await expect(model.weights.reIsq("Q9")).rejects.toMatchObject({ tag: "type/unknown" });
    expect(model.weights.plan).toBe(before);
    await model.close();
  });
});

describe("files that are gone or changed", () => {
  const folder = mkdtempSync(join(tmpdir(), "isq-re-"));
  const file = join(folder, "model.safetensors");
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  async function write(): Promise<Directory> {
    const made = await makeCheckpoint("llama-tied");
    for (const name of ["config.json", "model.safetensors"]) {
      writeFileSync(join(folder, name), await readFile(made, name, 2 ** 30));
    }
    return openDirectory(folder);
  }

  it.each([
    ["wasm", wasm],
    ["threads", () => threads({ workers: 2 })],
  ] as const)("resident weights are taken, and the report says why: %s", async (_name, make) => {
    const backend = await make();
    const model = await load(backend, { type: "Q6K" }, write());
    expect(await model.weights.reIsq("Q8_0")).toMatchObject({ from: "source", reason: null });
    utimesSync(file, 1, 1);
    const changed = await model.weights.reIsq("Q5_1");
    expect(changed).toMatchObject({ from: "resident", reason: expect.stringMatching(/was changed since/) });
    rmSync(file);
    const gone = await model.weights.reIsq("Q4K");
    expect(gone).toMatchObject({
      from: "resident",
      reason: expect.stringMatching(/no longer there.*ENOENT/),
    });
    await expect(model.weights.reIsq("Q8_0", { from: "source" })).rejects.toMatchObject({
      tag: "source/changed",
    });
    const again = await load(backend, { type: "Q6K" });
    for (const [type, from] of [
      ["Q8_0", "source"],
      ["Q5_1", "resident"],
      ["Q4K", "resident"],
    ] as const) {
      await again.weights.reIsq(type, { from });
    }
    expect(await model.logits()).toEqual(await again.logits());
    await model.close();
    await again.close();
    await backend.dispose();
  });

  it("a file that vanishes on the way fails the layers that are left", async () => {
    const backend = await threads({ workers: 2 });
    const model = await load(backend, { type: "Q4_0" }, write());
    const onProgress = ({ done }: ReIsqProgress) => done === MATRICES + 2 && rmSync(file);
    const error = await model.weights.reIsq("Q8_0", { onProgress }).catch((thrown) => thrown);
    expect(error.details.failures).toMatchObject([
      { layer: 1, error: { tag: "source/open" } },
      { layer: null },
    ]);
    const mixed = [{ layers: { start: 0, end: 1 }, isq: "Q8_0" as const }];
    expect(await model.logits()).toEqual(await logitsOf(backend, { type: "Q4_0", topology: mixed }));
    await model.close();
    await backend.dispose();
  });
});
