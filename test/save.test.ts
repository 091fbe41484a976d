/** Saved models: chunks of rows, safetensors with quantized tensors, what is written about where they come from. */

import { beforeAll, describe, expect, test } from "vitest";
import type { Tensor } from "../src/backends/backend.js";
import { wasm } from "../src/backends/wasm.js";
import { fromFiles } from "../src/files/directory.js";
import { toBytes } from "../src/files/gguf-write.js";
import { openSafetensors, writeSafetensors } from "../src/files/safetensors.js";
import { type OpenedModel, openModel } from "../src/load.js";
import { openDirectory } from "../src/node/directory.js";
import { type PlanRequest, plan } from "../src/plan.js";
import { quantizeModel } from "../src/quantize.js";
import { type IsqType, TYPE_NAMES } from "../src/quants/index.js";
import { planSafetensorsSave } from "../src/safetensors-export.js";
import { saveModel } from "../src/save.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { expectSame, ggufDirectory, toGguf, withEmbeddings } from "./gguf-support.js";

async function toSafetensors(
  opened: OpenedModel,
  { chunkElements, ...request }: Partial<PlanRequest> & { chunkElements?: number },
): Promise<Uint8Array> {
  const decided = plan(opened.program, opened.sourceOf, { type: null, ...request });
  const file = planSafetensorsSave(decided, { format: "pt" });
  const sink = toBytes(file.byteLength);
  await saveModel(file, decided, opened.checkpoint, await wasm(), sink, {
    ...(chunkElements && { chunkElements }),
  });
  return sink.bytes;
}

async function reopen(model: string, bytes: Uint8Array): Promise<OpenedModel> {
  const directory = await makeCheckpoint(model);
  const config = new Blob([(await (await directory.open("config.json")).slice(0, 1e5)) as BlobPart]);
  return openModel(
    fromFiles([
      ["config.json", config],
      ["model.safetensors", new Blob([bytes as BlobPart])],
    ]),
  );
}

describe("safetensors", () => {
  test.each(TYPE_NAMES)("%s is read again as it was written, and copied the same", async (type: IsqType) => {
    const opened = await openModel(await makeCheckpoint("llama"));
    const request = { type, ...withEmbeddings(type) };
    const bytes = await toSafetensors(opened, request);
    const again = await reopen("llama", bytes);
    const backend = await wasm();
    const made = new Map<string, Tensor>();
    const decided = plan(opened.program, opened.sourceOf, request);
    await quantizeModel(
      decided,
      opened.checkpoint,
      backend,
      ({ tensor }, made_) => void made.set(tensor, made_),
    );
    const kept = plan(again.program, again.sourceOf, { type: null });
    await quantizeModel(kept, again.checkpoint, backend, ({ tensor }, found) => {
      const { data: wantedData, ...wanted } = made.get(tensor)!;
      const { data, ...rest } = found;
      expect(rest).toEqual(wanted);
      expectSame(data, wantedData);
    });
    expectSame(await toSafetensors(again, { type: null }), bytes);
    expectSame(await toSafetensors(again, request), bytes);
  });
});

describe("chunks of rows change nothing", () => {
  let opened: OpenedModel;
  beforeAll(async () => {
    opened = await openModel(await openDirectory("models/tiny-mistral"));
  });

  test.each([256, 7 * 256, 100_000])(
    "GGUF from safetensors and from GGUF, %i elements",
    async (chunkElements) => {
      const request = { type: "Q4K", ...withEmbeddings("Q6K") } as const;
      const whole = await toGguf(opened, request);
      expectSame(await toGguf(opened, { ...request, chunkElements }), whole);
      const dense = await openModel(ggufDirectory(await toGguf(opened)), { gguf: "model.gguf" });
      expectSame(await toGguf(dense, { ...request, chunkElements }), whole);
      const again = await openModel(ggufDirectory(whole), { gguf: "model.gguf" });
      expectSame(await toGguf(again, { chunkElements }), whole);
    },
  );

  test("safetensors, with types that take all rows at once", async () => {
    for (const type of ["Q5_1", "HQQ4", "FP8"] as const) {
      const whole = await toSafetensors(opened, { type });
      expectSame(await toSafetensors(opened, { type, chunkElements: 3000 }), whole);
    }
  });
});

test("an infinite weight is named by its place in the tensor, whatever chunk it is in", async () => {
  const directory = await makeCheckpoint("llama");
  const file = await openSafetensors(await directory.open("model.safetensors"));
  const name = "model.layers.0.mlp.up_proj.weight";
  const tensors = await Promise.all(
    [...file.tensors.values()].map(async (entry) => ({
      ...entry,
      data: (await file.read(entry.name)).slice(),
    })),
  );
  const damaged = tensors.find((tensor) => tensor.name === name)!;
  const element = 1000;
  damaged.data.fill(0xff, (damaged.byteLength / damaged.shape[0] / damaged.shape[1]) * element);
  const opened = await reopen("llama", writeSafetensors(tensors));
  const saved = toSafetensors(opened, { type: "Q8_0", chunkElements: 256 });
  await expect(saved).rejects.toMatchObject({
    tag: "values/non-finite",
    details: { tensor: name, index: element },
  });
});
