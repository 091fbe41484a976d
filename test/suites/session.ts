/** Running models, on the backend given: the reference's bits for every logit, however the work is divided. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend, Session } from "../../src/backends/backend.js";
import { CACHE_BLOCK } from "../../src/backends/program.js";
import type { Directory } from "../../src/files/directory.js";
import { openModel } from "../../src/load.js";
import { createCollector } from "../../src/node/collect.js";
import { openDirectory } from "../../src/node/directory.js";
import type { IsqType } from "../../src/quants/index.js";
import { makeCheckpoint } from "../fixtures/architecture.js";
import { bits, openLanguageModel } from "../model/support.js";

interface Model {
  readonly name: string;
  open(): Promise<Directory>;
  readonly types: readonly (IsqType | undefined)[];
  readonly tokens: readonly number[];
}

const fixture = (name: string, types: Model["types"]): Model => ({
  name,
  open: () => makeCheckpoint(name),
  types,
  tokens: Array.from({ length: 45 }, (_, i) => (i * 31 + 5) % 100),
});

const MODELS: readonly Model[] = [
  fixture("llama", [undefined, "Q8_0", "HQQ4"]),
  fixture("llama-tied", [undefined, "Q5_1"]),
  fixture("mistral", [undefined, "FP8"]),
  fixture("mixtral", ["Q4K"]),
  fixture("deepseekv3", ["HQQ4"]),
  fixture("gpt2", ["Q6K"]),
  {
    name: "tiny-mistral",
    open: () => openDirectory("models/tiny-mistral"),
    types: ["Q4K", "Q6K"],
    tokens: Array.from({ length: 19 }, (_, i) => 300 + i * 7),
  },
];

/** The reference is slow: what it gave is kept for the other implementations of a test file. */
const known = new Map<string, Uint32Array>();

async function logitsOf(key: string, compute: () => Promise<Uint32Array>): Promise<Uint32Array> {
  const logits = known.get(key) ?? (await compute());
  known.set(key, logits);
  return logits;
}

export function sessionSuite(name: string, make: () => Backend | Promise<Backend>): void {
  describe(`models on ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await make();
    });
    afterAll(() => backend?.dispose());

    it("are forgotten when they are disposed", async () => {
      const openOne = async () => {
        const { model, session } = await openLanguageModel(await makeCheckpoint("llama-tied"), { backend });
        await model.logits([1, 2, 3]);
        await model.dispose();
        return new WeakRef(session);
      };
      const gone = await openOne();
      await new Promise((resolve) => setTimeout(resolve));
      createCollector().collect();
      expect(gone.deref()).toBeUndefined();
    });

    for (const { name: model, open, types, tokens } of MODELS) {
      it.each(types.map((type) => [type ?? "unquantized", type] as const))(
        `${model}: %s`,
        async (_name, type) => {
          const options = { ...(type && { type }), cachePositions: 128 };
          const wanted = await logitsOf(`${model} ${type}`, async () => {
            const expected = await openLanguageModel(await open(), options);
            return bits(await expected.model.logits(tokens));
          });
          const actual = await openLanguageModel(await open(), { ...options, backend, quantizer: backend });
          for (const stepRows of [tokens.length, 7, 1]) {
            expect(bits(await actual.model.logits(tokens, { stepRows }))).toEqual(wanted);
          }
          await actual.model.dispose();
        },
      );
    }

    it("several sequences of different length in one step", async () => {
      const directory = await makeCheckpoint("mistral");
      const { model, session } = await openLanguageModel(directory, { backend, cachePositions: 256 });
      const alone = await openLanguageModel(directory, { cachePositions: 256 });
      const texts = [tokensOf(40, 1), tokensOf(3, 2), tokensOf(65, 3)];
      const together = await runTogether(session, texts);
      const { vocabulary } = model.program;
      let row = 0;
      for (const text of texts) {
        const own = await alone.model.logits(text);
        const part = together.subarray(row * vocabulary, (row + text.length) * vocabulary);
        expect(bits(part.slice())).toEqual(bits(own));
        row += text.length;
      }
      await model.dispose();
    });

    it("refuses a step before all weights are there, wrong shapes, and use after disposal", async () => {
      const { program, checkpoint } = await openModel(await makeCheckpoint("llama"));
      await checkpoint.close();
      const session = await backend.open(program, { cachePositions: 32 });
      const batch = batchOf([tokensOf(2, 1)]);
      const tensor = { type: "F32", shape: [1], data: new Uint8Array(4) } as const;
      const run = async (work: () => unknown) => work();
      await expect(run(() => session.run(batch))).rejects.toMatchObject({ tag: "tensor/missing" });
      await expect(run(() => session.place(0, tensor))).rejects.toMatchObject({ tag: "tensor/shape" });
      await expect(run(() => session.place(9999, tensor))).rejects.toMatchObject({ tag: "tensor/missing" });
      await session.dispose();
      await expect(run(() => session.run(batch))).rejects.toMatchObject({ tag: "backend/disposed" });
    });
  });
}

const tokensOf = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * 17 + seed * 29) % 97);

/** All texts from their start in one step, all logits wanted. */
function batchOf(texts: readonly number[][]) {
  let block = 0;
  const tables = texts.map((text) =>
    Int32Array.from({ length: Math.ceil(text.length / CACHE_BLOCK) }, () => block++),
  );
  const rows = texts.flatMap((text, sequence) =>
    text.map((token, position) => ({ token, position, sequence })),
  );
  return {
    tokens: Int32Array.from(rows, ({ token }) => token),
    positions: Int32Array.from(rows, ({ position }) => position),
    sequences: Int32Array.from(rows, ({ sequence }) => sequence),
    blockTables: tables,
    outputs: Int32Array.from(rows, (_, i) => i),
  };
}

async function runTogether(session: Session, texts: readonly number[][]): Promise<Float32Array> {
  return session.run(batchOf(texts));
}
