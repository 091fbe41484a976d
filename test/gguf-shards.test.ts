/** A model over several GGUF files: what one file has, read by us and by llama.cpp; complete or not there. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { wasm } from "../src/backends/wasm.js";
import { openGguf } from "../src/files/gguf.js";
import { fromBytes } from "../src/files/source.js";
import { openModel } from "../src/load.js";
import { openDirectory } from "../src/node/directory.js";
import { openFile } from "../src/node/file-source.js";
import { plan } from "../src/plan.js";
import { hashOf, parseReceipt } from "../src/receipt.js";
import { verifyReceipt } from "../src/receipt-verify.js";
import { planOutputs, type WriteOptions, writeModels } from "../src/write-model.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { openLlama } from "./oracle/llama.js";

const MODEL = "models/tiny-mistral";
const MOST = 1_000_000;
const folder = mkdtempSync(join(tmpdir(), "isq-shards-"));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function write(name: string, options: WriteOptions = {}, types: (string | null)[] = ["Q4K"]) {
  const opened = await openModel(await openDirectory(MODEL));
  const jobs = planOutputs(opened, { type: null }, at(name), types);
  const reports = await writeModels(opened, jobs, await wasm(), options);
  await opened.checkpoint.close();
  return reports;
}

const shardsOf = (stem: string) => readdirSync(folder).filter((name) => name.startsWith(`${stem}-0`));

beforeAll(async () => {
  await write("whole.gguf");
  await write("split.gguf", { shardByteLength: MOST, receipt: true });
});

describe("a model in shards", () => {
  test("files are named as llama.cpp names them, and none has more than was said", async () => {
    const names = shardsOf("split");
    expect(names.length).toBeGreaterThan(3);
    const count = String(names.length).padStart(5, "0");
    expect(names).toEqual(names.map((_, i) => `split-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`));
    const sizes = [];
    for (const name of names) {
      const { tensors } = await openGguf(fromBytes(readFileSync(at(name))));
      sizes.push([...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0));
    }
    expect(sizes.filter((size) => size > MOST)).toHaveLength(1); // the embedding alone is larger
  });

  test("has the tensors and metadata of one file", async () => {
    const directory = await openDirectory(folder);
    const whole = await openModel(directory, { gguf: "whole.gguf" });
    const split = await openModel(directory, { gguf: shardsOf("split")[0] });
    const [a, b] = [whole.gguf!.files, split.gguf!.files];
    expect([...b.tensors.keys()]).toEqual([...a.tensors.keys()]);
    for (const name of a.tensors.keys())
      expect(hashOf(await b.read(name)), name).toBe(hashOf(await a.read(name)));
    const own = new Map([...b.metadata].filter(([key]) => !key.startsWith("split.")));
    expect(own).toEqual(new Map(a.metadata));
    await whole.checkpoint.close();
    await split.checkpoint.close();
  });

  test("gives the logits of one file in llama.cpp", async () => {
    const llama = await openLlama();
    const [whole, split] = ["whole.gguf", shardsOf("split")[0]].map((name) => {
      const model = llama.load(at(name));
      const logits = model.logits([1, 300, 17, 2048, 5]);
      model.free();
      return logits;
    });
    expect(split).toEqual(whole);
    expect(new Set(whole).size).toBeGreaterThan(1000);
  });

  test("is in its receipt, every shard", async () => {
    const receipt = parseReceipt(readFileSync(at("split.gguf.receipt.json"), "utf8"));
    const files = [receipt.output, ...(receipt.output.others ?? [])].map(({ file }) => file);
    expect(files).toEqual(shardsOf("split"));
    const open = (file: string) => openFile(at(file));
    const source = (file: string) => openFile(join(MODEL, file));
    const checks = await verifyReceipt(receipt, { source, output: open, backend: await wasm() });
    expect(checks).toHaveLength(57);
    for (const { tensor, source, output, again } of checks) {
      expect([source, output, again], tensor).toEqual(["same", "same", "same"]);
    }
  });

  test("of several types each has its own; a larger shard than the model is one file of a set of one", async () => {
    await write("two.gguf", { shardByteLength: 10 ** 9 }, ["Q8_0", "Q5_1"]);
    expect(readdirSync(folder).filter((name) => name.startsWith("two"))).toEqual([
      "two-q5_1-00001-of-00001.gguf",
      "two-q8_0-00001-of-00001.gguf",
    ]);
  });

  test("replaces nothing unasked, and leaves nothing beside it", async () => {
    const options = { shardByteLength: MOST };
    await expect(write("split.gguf", options)).rejects.toMatchObject({ tag: "output/exists" });
    const hashes = () => shardsOf("split").map((name) => hashOf(readFileSync(at(name))));
    const before = hashes();
    await write("split.gguf", { ...options, overwrite: true });
    expect(hashes()).toEqual(before);
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
  });

  test("with a shard elsewhere is refused by name", async () => {
    mkdirSync(at("away"));
    const [first, second] = shardsOf("split");
    renameSync(at(second), join(at("away"), second));
    const opening = openModel(await openDirectory(folder), { gguf: first });
    await expect(opening).rejects.toMatchObject({ tag: "gguf/split", details: { value: second } });
    renameSync(join(at("away"), second), at(second));
  });

  test("experts that share a tensor are in one shard", async () => {
    const opened = await openModel(await makeCheckpoint("mixtral"));
    const decided = plan(opened.program, opened.sourceOf, { type: "Q8_0" });
    const jobs = [{ plan: decided, path: at("experts.gguf") }];
    await writeModels(opened, jobs, await wasm(), { shardByteLength: 1 });
    const [first] = shardsOf("experts");
    const again = await openModel(await openDirectory(folder), { gguf: first });
    expect(again.program.weights.map(({ name }) => name)).toEqual(
      opened.program.weights.map(({ name }) => name),
    );
    expect(again.gguf!.files.tensors.size).toBe(shardsOf("experts").length);
    await again.checkpoint.close();
    await opened.checkpoint.close();
  });
});
