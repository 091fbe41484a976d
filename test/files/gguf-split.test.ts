import fc from "fast-check";
import { expect, test } from "vitest";
import { fromFiles } from "../../src/files/directory.js";
import { layoutGgufShards, openGgufFiles, shardName } from "../../src/files/gguf-split.js";
import { toBytes, writeGguf } from "../../src/files/gguf-write.js";
import { content, type GgufContent } from "./gguf-support.js";

async function writeShards({ metadata, tensors }: GgufContent, maxDataBytes: number) {
  const shards = layoutGgufShards("model", metadata, tensors, maxDataBytes);
  const files = shards.map(async ({ file, layout, tensors: indices }): Promise<[string, Blob]> => {
    const sink = toBytes(layout.byteLength);
    await writeGguf(layout, (_, index) => tensors[indices[index]].data, sink);
    return [file, new Blob([sink.bytes as BlobPart])];
  });
  return Promise.all(files);
}

test("a model written in shards is read as one", async () => {
  const property = fc.asyncProperty(
    content,
    fc.integer({ min: 1, max: 2000 }),
    async (made, maxDataBytes) => {
      const files = await writeShards(made, maxDataBytes);
      const names = files.map(([name]) => name);
      expect(names).toEqual(names.map((_, i) => shardName("model", i, names.length)));
      const opened = await openGgufFiles(fromFiles(files, "m"), fc.sample(fc.constantFrom(...names), 1)[0]);
      expect([...opened.tensors.keys()]).toEqual(made.tensors.map(({ name }) => name));
      for (const { name, data } of made.tensors) expect(await opened.read(name)).toEqual(data);
      for (const [key, value] of made.metadata) expect(opened.metadata.get(key)).toEqual(value);
      expect(opened.metadata.get("split.tensors.count")).toEqual({ type: "i32", value: made.tensors.length });
      await expect(opened.read("none")).rejects.toMatchObject({ tag: "tensor/missing" });
    },
  );
  await fc.assert(property, { numRuns: 100, seed: 33 });
});

test("the files are closed when one is refused, and when the model is", async () => {
  const tensors = ["a", "b"].map((name) => ({ name, type: "I8", shape: [4], data: new Uint8Array(4) }));
  const files = new Map(await writeShards({ metadata: new Map(), tensors }, 4));
  expect(files.size).toBe(2);
  let open = 0;
  const inner = fromFiles(files, "m");
  const counting = {
    ...inner,
    async open(file: string) {
      const source = await inner.open(file);
      open++;
      return { ...source, close: async () => void open-- };
    },
  };
  const opened = await openGgufFiles(counting, "model-00002-of-00002.gguf");
  expect(open).toBe(2);
  await opened.close();
  expect(open).toBe(0);
  files.set("model-00002-of-00002.gguf", new Blob(["GGUF"]));
  const bad = fromFiles(files, "m");
  const half = {
    ...counting,
    open: async (file: string) => ({ ...(await bad.open(file)), close: async () => void open-- }),
  };
  open = 2;
  await expect(openGgufFiles(half, "model-00001-of-00002.gguf")).rejects.toMatchObject({
    tag: "gguf/truncated",
  });
  expect(open).toBe(0);
  const wrong = openGgufFiles(bad, "model-00003-of-00002.gguf");
  await expect(wrong).rejects.toMatchObject({ tag: "gguf/split" });
});
