/** Models that cannot be loaded: each is refused with its tag, and every file that was opened is closed again. */

import { existsSync, readdirSync, readFileSync, readlinkSync, truncateSync } from "node:fs";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Directory } from "../src/files/directory.js";
import { type SafetensorsTensor, writeSafetensors } from "../src/files/safetensors.js";
import { TextModelBuilder } from "../src/index.js";
import { openModel } from "../src/load.js";
import { openDirectory } from "../src/node/directory.js";
import { makeTensors, readConfig, toDirectory } from "./fixtures/architecture.js";

const Q = "model.layers.0.self_attn.q_proj.weight";
const DOWN = "model.layers.1.mlp.down_proj.weight";
const TOKENIZER = ["tokenizer.json", "tokenizer_config.json"];

type Files = Record<string, string | Uint8Array>;
type Spoil = (tensor: SafetensorsTensor) => SafetensorsTensor | null;

let tensors: SafetensorsTensor[];
let config: Record<string, unknown>;
beforeAll(async () => {
  tensors = await makeTensors("llama");
  config = await readConfig("llama");
});

/** The files of the llama fixture with a tokenizer; `spoil` changes one tensor or takes it away. */
function filesOf(name?: string, spoil?: Spoil): Files {
  const changed = tensors.flatMap((tensor) => (tensor.name === name ? (spoil?.(tensor) ?? []) : [tensor]));
  const files: Files = {
    "config.json": JSON.stringify(config),
    "model.safetensors": writeSafetensors(changed),
  };
  for (const file of TOKENIZER) files[file] = readFileSync(`models/tiny-mistral/${file}`);
  return files;
}

/** The same files in two shards, the later half of the tensors in the second. */
function shardsOf(secondShard: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes): Files {
  const { "model.safetensors": _, ...files } = filesOf();
  const half = tensors.length >> 1;
  const names = ["model-1.safetensors", "model-2.safetensors"];
  files[names[0]] = writeSafetensors(tensors.slice(0, half));
  files[names[1]] = secondShard(writeSafetensors(tensors.slice(half)));
  const map = tensors.map(({ name }, index) => [name, names[index < half ? 0 : 1]]);
  files["model.safetensors.index.json"] = JSON.stringify({ weight_map: Object.fromEntries(map) });
  return files;
}

/** A directory that knows how many of its files are open. */
function watch(directory: Directory) {
  const counts = { opened: 0, open: 0 };
  const watched: Directory = {
    ...directory,
    async open(file) {
      const source = await directory.open(file);
      counts.opened++;
      counts.open++;
      let closed = false;
      const close = async () => {
        if (!closed) counts.open--;
        closed = true;
        await source.close?.();
      };
      return { ...source, close };
    },
  };
  return { watched, counts };
}

interface Refusal {
  readonly tag: string;
  readonly details?: Record<string, unknown>;
  /** Parts of the sentence. */
  readonly says?: readonly string[];
}

/** Loads the files in every way a user can, and expects the same refusal each time, with nothing left open. */
async function expectRefused(files: Files, refusal: Refusal, ways: readonly Way[] = WAYS): Promise<void> {
  const { tag, details = {}, says = [] } = refusal;
  for (const way of ways) {
    const { watched, counts } = watch(toDirectory(files, "folder"));
    const error = await way(watched).then(
      () => null,
      (reason: Error) => reason,
    );
    expect(error).toMatchObject({ name: "IsqError", tag, details });
    for (const part of says) expect(error?.message).toContain(part);
    expect(counts.open).toBe(0);
  }
}

type Way = (directory: Directory) => Promise<unknown>;
const build: Way = (directory) => new TextModelBuilder(directory).withIsq("Q4K").build();
const WAYS: readonly Way[] = [
  openModel,
  build,
  (directory) => new TextModelBuilder(directory).withIsq("Q4K").plan(),
];

test("the fixture loads, in one file and in shards, and closes when disposed", async () => {
  for (const files of [filesOf(), shardsOf()]) {
    const { watched, counts } = watch(toDirectory(files));
    const model = await new TextModelBuilder(watched).withIsq("Q8_0").build();
    expect(counts.opened).toBeGreaterThan(counts.open);
    expect(counts.open).toBe("model.safetensors" in files ? 1 : 2);
    await model.dispose();
    expect(counts.open).toBe(0);
  }
});

describe("a checkpoint that is not as the architecture needs it", () => {
  test("a missing tensor is named, with its shape", () =>
    expectRefused(
      filesOf(Q, () => null),
      {
        tag: "tensor/missing",
        details: { tensor: Q, limit: [256, 256], file: "folder/model.safetensors" },
        says: [Q, "[256, 256]"],
      },
    ));

  test("a wrong shape is named, with the right one", () =>
    expectRefused(
      filesOf(DOWN, (tensor) => ({ ...tensor, shape: [512, 256] })),
      {
        tag: "tensor/shape",
        details: { tensor: DOWN, value: [512, 256], limit: [256, 512] },
        says: [DOWN, "[512, 256]", "[256, 512]"],
      },
    ));

  test("a wrong rank", () =>
    expectRefused(
      filesOf(DOWN, (tensor) => ({ ...tensor, shape: [256 * 512] })),
      { tag: "tensor/shape", says: ["[131072]", "[256, 512]"] },
    ));

  test("zero rows", () =>
    expectRefused(
      filesOf(DOWN, (tensor) => ({ ...tensor, shape: [0, 512], data: new Uint8Array(0) })),
      { tag: "tensor/shape", details: { value: [0, 512] } },
    ));

  test.each(["I32", "F64", "F8_E4M3", "BOOL"])("weights in %s", (dtype) => {
    const bytes = { I32: 4, F64: 8, F8_E4M3: 1, BOOL: 1 }[dtype] as number;
    const spoil: Spoil = (tensor) => ({ ...tensor, dtype, data: new Uint8Array(256 * 256 * bytes) });
    return expectRefused(filesOf(Q, spoil), {
      tag: "safetensors/dtype",
      details: { tensor: Q, value: dtype, limit: ["F32", "F16", "BF16"] },
    });
  });
});

describe("files that are missing or cut", () => {
  test.each([
    ["config.json", "config/missing"],
    ["model.safetensors", "source/open"],
  ])("no %s", (file, tag) => {
    const { [file]: _, ...rest } = filesOf();
    return expectRefused(rest, { tag });
  });

  test("no tokenizer.json: the model opens and plans, and does not build", async () => {
    const { "tokenizer.json": _, ...rest } = filesOf();
    const missing = { tag: "tokenizer/missing", details: { file: "folder/tokenizer.json" } };
    await expectRefused(rest, missing, [build]);
  });

  test.each(["{", "[]", ""])("a tokenizer.json of %j", async (text) => {
    await expectRefused({ ...filesOf(), "tokenizer.json": text }, { tag: "tokenizer/invalid" }, [build]);
  });

  test.each(["{", "[]", "", "null"])("a config.json of %j", (text) =>
    expectRefused({ ...filesOf(), "config.json": text }, { tag: "config/invalid" }),
  );

  test.each([
    ["by one byte", -1, "safetensors/truncated"],
    ["in its header", 500, "safetensors/header-length"],
    ["in its first bytes", 5, "safetensors/truncated"],
  ])("model.safetensors cut %s", (_where, end, tag) => {
    const files = filesOf();
    files["model.safetensors"] = (files["model.safetensors"] as Uint8Array).slice(0, end);
    return expectRefused(files, { tag, details: { file: "folder/model.safetensors" } });
  });

  test("the second of two shards cut: the first is closed too", () => {
    const files = shardsOf((bytes) => bytes.slice(0, -2));
    return expectRefused(files, {
      tag: "safetensors/truncated",
      details: { file: "folder/model-2.safetensors" },
    });
  });

  test("the second of two shards missing", () => {
    const { "model-2.safetensors": _, ...files } = shardsOf();
    return expectRefused(files, { tag: "safetensors/index" });
  });
});

test("an unknown architecture is named, with the known ones", () => {
  const unknown = { ...config, architectures: ["OracleForCausalLM"], model_type: "oracle" };
  return expectRefused(
    { ...filesOf(), "config.json": JSON.stringify(unknown) },
    { tag: "architecture/unknown", says: ["racle", "llama", "mistral"] },
  );
});

describe("weights that are no numbers", () => {
  test.each([
    ["NaN", 0x7fc0],
    ["a NaN with its sign set", 0xffff],
    ["infinity", 0x7f80],
    ["minus infinity", 0xff80],
  ])("%s: tensor and element are named", (_what, half) => {
    const index = 256 * 3 + 17;
    const spoil: Spoil = (tensor) => {
      const data = tensor.data.slice();
      new DataView(data.buffer).setUint16(2 * index, half, true);
      return { ...tensor, data };
    };
    return expectRefused(
      filesOf(Q, spoil),
      { tag: "values/non-finite", details: { tensor: Q, index }, says: [Q, String(index)] },
      [build],
    );
  });
});

describe.runIf(existsSync("/proc/self/fd"))("a folder on disk", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "isq-load-"));
    for (const [file, content] of Object.entries(shardsOf())) await writeFile(join(folder, file), content);
  });
  afterAll(() => rm(folder, { recursive: true }));

  /** Files of the folder that this process holds, as the system sees it. */
  const held = () =>
    readdirSync("/proc/self/fd").flatMap((entry) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${entry}`);
        return target.startsWith(folder) ? [target] : [];
      } catch {
        return []; // closed between the two calls
      }
    });

  test("holds its shards while the model lives", async () => {
    const model = await new TextModelBuilder(folder).withIsq("Q8_0").build();
    expect(held()).toHaveLength(2);
    await model.dispose();
    expect(held()).toEqual([]);
  });

  test("that shrinks while it is loaded is refused and let go", async () => {
    const shard = join(folder, "model-2.safetensors");
    const building = new TextModelBuilder(await openDirectory(folder)).withIsq("Q4K").build({
      onProgress: ({ done }) => {
        if (done === 1) truncateSync(shard, 4096);
      },
    });
    await expect(building).rejects.toMatchObject({ tag: "source/short", details: { file: shard } });
    expect(held()).toEqual([]);
  });

  test("whose shard is cut is refused and let go", async () => {
    await truncate(join(folder, "model-2.safetensors"), 4096);
    await expect(new TextModelBuilder(folder).build()).rejects.toMatchObject({ name: "IsqError" });
    expect(held()).toEqual([]);
  });
});
