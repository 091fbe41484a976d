/** Models in GGUF files through `Runner` and `Which`, as mistral.rs's example has it. */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Runner, TextModelBuilder, Which } from "../src/index.js";
import { expectSame } from "./gguf-support.js";

const MESSAGES = [{ role: "user", content: "What is a transaction?" }] as const;
const TEMPLATE = "models/tiny-mistral";

let folder: string;
let file: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "isq-runner-"));
  mkdirSync(join(folder, "model"));
  file = join(folder, "model", "tiny.Q8_0.gguf");
  await new TextModelBuilder(TEMPLATE).withIsq("Q8_0").withBackend("wasm").save(file);
});
afterAll(() => rmSync(folder, { recursive: true }));

const gguf = { quantizedModelId: () => join(folder, "model"), quantizedFilename: "tiny.Q8_0.gguf" };

test("a GGUF model is quantized again in situ, with the tokenizer of another folder or its own", async () => {
  const which = Which.Gguf({ ...gguf, quantizedModelId: gguf.quantizedModelId(), tokModelId: TEMPLATE });
  const runner = await Runner.create({ which, inSituQuant: "Q4K", backend: "wasm" });
  const { plan } = runner.model.report;
  const { choices } = await runner.sendChatCompletionRequest({
    messages: MESSAGES,
    maxTokens: 12,
    temperature: 0,
  });
  const report = await runner.sendReIsq("Q6K");
  await runner.dispose();
  expect(plan.rows.filter(({ role }) => role === "linear").every(({ type }) => type === "Q4K")).toBe(true);
  expect(plan.rows.find(({ role }) => role === "linear")!.source.type).toBe("Q8_0");
  expect(choices[0].message.content.length).toBeGreaterThan(5);
  expect(report.plan.requested).toBe("Q6K");

  const { tokModelId: _, ...inside } = which as typeof which & { tokModelId?: string };
  const again = await Runner.create({ which: inside, inSituQuant: "Q4K", backend: "wasm" });
  const other = await again.sendChatCompletionRequest({ messages: MESSAGES, maxTokens: 12, temperature: 0 });
  await again.dispose();
  expect(other).toEqual({ choices });
});

test("the same type is a copy of the bytes", async () => {
  const which = Which.Gguf({ ...gguf, quantizedModelId: gguf.quantizedModelId() });
  const runner = await Runner.create({ which, inSituQuant: "Q8_0", backend: "wasm" });
  const rows = runner.model.report.plan.rows.filter(({ role }) => role === "linear" || role === "head");
  await runner.dispose();
  expect(rows.map(({ algorithm, reason }) => [algorithm, reason])).toEqual(
    rows.map(() => [null, "already Q8_0: its bytes are copied"]),
  );
  const copy = join(folder, "copy.gguf");
  await new TextModelBuilder(file).withIsq("Q8_0").withBackend("wasm").save(copy);
  const { openModel } = await import("../src/load.js");
  const { openDirectory } = await import("../src/node/directory.js");
  const open = async (path: string, name: string) => openModel(await openDirectory(path), { gguf: name });
  const [a, b] = [await open(join(folder, "model"), "tiny.Q8_0.gguf"), await open(folder, "copy.gguf")];
  for (const name of a.checkpoint.tensors.keys()) {
    expectSame(await b.checkpoint.read(name), await a.checkpoint.read(name));
  }
  await Promise.all([a, b].map(({ checkpoint }) => checkpoint.close()));
});

test("a plain model", async () => {
  const runner = await Runner.create({ which: Which.Plain({ modelId: TEMPLATE }), backend: "wasm" });
  expect(runner.model.report.plan.requested).toBeNull();
  await runner.dispose();
});

test.each([
  [{ quantizedFilename: "missing.gguf" }, "source/open"],
  [{ quantizedFilename: [] }, "option/invalid"],
  [{ quantizedFilename: "tiny.Q8_0.gguf", tokModelId: "nowhere" }, "source/open"],
])("%j throws %s", async (changes, tag) => {
  const which = Which.Gguf({ quantizedModelId: gguf.quantizedModelId(), ...changes });
  const caught = await Runner.create({ which, backend: "wasm" }).catch((error) => error);
  expect(caught).toMatchObject({ tag });
});
