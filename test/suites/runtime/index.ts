/**
 * Everything that must come out the same wherever it runs: codecs, files, a model, on every backend that the runtime has.
 * Plain functions: scripts/runtimes.mjs runs them on the built package in one runtime after the other.
 */

import type { Backend } from "../../../src/backends/backend.js";
import { openBackend } from "../../../src/backends/open.js";
import { reference } from "../../../src/backends/reference.js";
import { threads } from "../../../src/backends/threads.js";
import { wasm } from "../../../src/backends/wasm.js";
import { isIsqError } from "../../../src/errors.js";
import { openInput } from "../../../src/inputs.js";
import { TextModelBuilder } from "../../../src/text-model-builder.js";
import { REFERENCE } from "../reference-codec.js";
import { codecOf, runCases, runGolden, runProducts } from "./codec-rows.js";
import { createDigests } from "./digest.js";
import { runFiles, runMalformed } from "./file-rows.js";
import type { Host } from "./host.js";
import { runModel } from "./model-rows.js";

export type { Host } from "./host.js";

export interface RuntimeReport {
  /** sha256 (hex) of what was produced, by row and then by backend. */
  readonly rows: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Checks that failed, in words. */
  readonly failures: readonly string[];
  /** What the runtime has: "yes", or the refusal's tag and sentence. */
  readonly features: Readonly<Record<string, string>>;
  readonly seconds: number;
}

const BACKENDS: Readonly<Record<string, () => Backend | Promise<Backend>>> = {
  reference,
  wasm: () => wasm(),
  threads: () => threads({ workers: 2 }),
};

export interface RunOptions {
  /** A sixteenth of the golden set, one file, and neither file nor model on the reference: some seconds. */
  readonly quick?: boolean;
  readonly log?: (line: string) => void;
}

export async function runEverything(host: Host, options: RunOptions = {}): Promise<RuntimeReport> {
  const { quick = false, log = () => {} } = options;
  const started = performance.now();
  const rows: Record<string, Record<string, string>> = {};
  const failures: string[] = [];
  const features = await listFeatures();
  const note = (by: string, digests: Map<string, string>) => {
    for (const [row, hash] of digests) rows[row] = { ...rows[row], [by]: hash };
  };
  const vectors = await host.readVectors();
  const catalogues = createDigests();
  failures.push(...(await runMalformed(host, catalogues)));
  note("files", catalogues.finish());
  for (const [name, open] of Object.entries(BACKENDS)) {
    if (features[`isq/${name}`] !== undefined && features[`isq/${name}`] !== "yes") continue;
    const backend = await open();
    const codec = name === "reference" ? REFERENCE : codecOf(backend);
    const digests = createDigests();
    const step = async (what: string, work: () => Promise<readonly string[]>) => {
      const from = performance.now();
      for (const failure of await work()) failures.push(`${name}, ${what}: ${failure}`);
      log(`${name}: ${what}, ${((performance.now() - from) / 1000).toFixed(1)} s`);
    };
    await step("golden set", () => runGolden(codec, vectors, digests, quick ? 16 : 1));
    await step("hard rows", () => runCases(codec, digests));
    await step("products", () => runProducts((...request) => backend.matmul(...request), digests));
    if (quick && name === "reference") {
      note(name, digests.finish());
      continue;
    }
    await step("files", () => runFiles(host, backend, digests, quick ? 1 : Number.POSITIVE_INFINITY));
    await step("model", () => runModel(host, backend, digests));
    await backend.dispose();
    note(name, digests.finish());
  }
  return { rows, failures, features, seconds: (performance.now() - started) / 1000 };
}

/** Tries what not every runtime has. A refusal must be one of ours. */
export async function listFeatures(): Promise<Record<string, string>> {
  const attempt = async (work: () => unknown): Promise<string> => {
    try {
      const said = await work();
      return typeof said === "string" ? said : "yes";
    } catch (error) {
      return isIsqError(error) ? `${error.tag}: ${error.message}` : `NOT OURS: ${error}`;
    }
  };
  const use = async (backend: Backend | Promise<Backend>) => (await backend).dispose();
  return {
    "isq/wasm": await attempt(() => use(wasm())),
    "isq/threads": await attempt(() => use(threads({ workers: 1 }))),
    "default backend": await attempt(async () => {
      const backend = await openBackend();
      await backend.dispose();
      return `yes: ${backend.name}`;
    }),
    "files by path": await attempt(async () => (await openInput("package.json")).close?.()),
    "folders by path": await attempt(() => new TextModelBuilder("models/tiny-mistral").plan()),
    "saving to a path": await attempt(() =>
      new TextModelBuilder("models/tiny-mistral")
        .withIsq("Q8_0")
        .save("out/runtimes/saved.gguf", { overwrite: true }),
    ),
  };
}
