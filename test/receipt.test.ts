/** Receipts of real files: made, written, read, checked on disk and over HTTP, and found out when something changed. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { wasm } from "../src/backends/wasm.js";
import { toBytes } from "../src/files/gguf-write.js";
import { fromUrl } from "../src/files/http-source.js";
import { writeImatrixGguf } from "../src/files/imatrix.js";
import { fromBytes } from "../src/files/source.js";
import { planGgufSave } from "../src/gguf-export.js";
import { importanceEntries } from "../src/importance.js";
import { openModel } from "../src/load.js";
import { openDirectory } from "../src/node/directory.js";
import { openFile } from "../src/node/file-source.js";
import { makeImportance } from "../src/oracle/rows.js";
import { plan } from "../src/plan.js";
import { formatReceipt, hashOf, makeReceipt, parseReceipt, type Receipt } from "../src/receipt.js";
import { ggufPlaces } from "../src/receipt-places.js";
import { verifyReceipt } from "../src/receipt-verify.js";
import { saveModel } from "../src/save.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const SOURCE = join(root, "models/tiny-mistral");
const folder = mkdtempSync(join(tmpdir(), "isq-receipt-"));
const FILE = join(folder, "tiny.gguf");
const RECEIPT = join(folder, "tiny.receipt.json");
const Q_PROJ = "model.layers.2.self_attn.q_proj.weight";
const DOWN = "model.layers.2.mlp.down_proj.weight";

let bytes: Uint8Array;
let receipt: Receipt;
let served: { range: string | undefined; url: string | undefined }[];
let server: Server;
let address: string;

beforeAll(async () => {
  const model = await openModel(await openDirectory(SOURCE));
  const decided = plan(model.program, model.sourceOf, { type: "Q4K", algorithm: "default" });
  const planned = planGgufSave(model.config, decided);
  const sink = toBytes(planned.byteLength);
  await saveModel(planned, decided, model.checkpoint, await wasm(), sink);
  bytes = sink.bytes;
  writeFileSync(FILE, bytes);
  const output = fromBytes(bytes, FILE);
  receipt = await makeReceipt({
    plan: decided,
    checkpoint: model.checkpoint,
    output,
    places: ggufPlaces(model, planned),
  });
  await model.checkpoint.close();
  writeFileSync(RECEIPT, formatReceipt(receipt));
  server = createServer((request, response) => {
    const { range } = request.headers;
    served.push({ range, url: request.url });
    const name = basename(request.url ?? "");
    const all =
      name === "tiny.gguf" ? readFileSync(FILE) : name === "plain" ? null : readFileSync(join(SOURCE, name));
    const match = /^bytes=(\d+)-(\d+)$/.exec(range ?? "");
    if (!all || !match) return void response.writeHead(200).end("everything");
    const [from, to] = [Number(match[1]), Number(match[2])];
    response.writeHead(206, { "content-range": `bytes ${from}-${to}/${all.length}` });
    response.end(all.subarray(from, to + 1));
  });
  server.listen(0);
  await once(server, "listening");
  address = `http://localhost:${(server.address() as AddressInfo).port}`;
  served = [];
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

const openSource = (file: string) => openFile(join(SOURCE, file));

const isq = (...args: string[]) => command("verify", ...args);

async function command(...args: string[]) {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], { cwd: root });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text) => {
    stdout += text;
  });
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  const [status] = await once(child, "close");
  return { status, stdout, stderr };
}

describe("a receipt", () => {
  test("has every tensor of the file, with ranges and hashes that are the files' own", () => {
    expect(receipt.tensors).toHaveLength(57);
    const checkpoint = readFileSync(join(SOURCE, "model.safetensors"));
    for (const { source, output, plan: row } of receipt.tensors) {
      const own = checkpoint.subarray(
        source.byteOffset as number,
        (source.byteOffset as number) + source.byteLength,
      );
      expect(hashOf(own)).toBe(source.sha256);
      const at = output.byteOffset as number;
      expect(hashOf(bytes.subarray(at, at + output.byteLength))).toBe(output.sha256);
      expect([source.file, output.file]).toEqual(["model.safetensors", "tiny.gguf"]);
      expect(row.algorithm === null || row.type === "Q4K").toBe(true);
    }
    expect(receipt.tensors.find(({ tensor }) => tensor === Q_PROJ)?.output.rows).toEqual({
      order: "interleaved",
      heads: 8,
    });
  });

  test("is the same after writing and reading, a line per tensor", () => {
    const text = formatReceipt(receipt);
    expect(parseReceipt(text)).toEqual(receipt);
    expect(text.split("\n")).toHaveLength(57 + 3);
    expect(text.length).toBeLessThan(60_000);
  });

  test("is confirmed by its files: read, and encoded again", async () => {
    const options = { source: openSource, output: fromBytes(bytes), backend: await wasm() };
    const checks = await verifyReceipt(receipt, options);
    expect(checks.filter((c) => c.source !== "same" || c.output !== "same" || c.again !== "same")).toEqual(
      [],
    );
    expect(checks).toHaveLength(57);
  });

  test("is not confirmed by a changed output, source or importance", async () => {
    const row = receipt.tensors.find(({ tensor }) => tensor === DOWN)!;
    const changed = bytes.slice();
    changed[(row.output.byteOffset as number) + 99] ^= 1;
    const only = { tensors: [DOWN] };
    const output = fromBytes(changed);
    expect(await verifyReceipt(receipt, { ...only, source: openSource, output })).toEqual([
      { tensor: DOWN, plan: "not given", source: "same", output: "differs", again: "same" },
    ]);
    const weights = readFileSync(join(SOURCE, "model.safetensors"));
    weights[(row.source.byteOffset as number) + 7] ^= 0x80;
    const source = async () => fromBytes(weights);
    expect(await verifyReceipt(receipt, { ...only, source })).toEqual([
      { tensor: DOWN, plan: "not given", source: "differs", output: "not given", again: "differs" },
    ]);
    const claims = {
      ...receipt,
      tensors: [{ ...row, plan: { ...row.plan, algorithm: "mistralrs" as const } }],
    };
    expect((await verifyReceipt(claims, { source: openSource }))[0].again).toBe("differs");
    const weighted = { ...receipt, tensors: [{ ...row, importance: "0".repeat(64) }] };
    expect((await verifyReceipt(weighted, { source: openSource }))[0].again).toBe("not given");
    const importance = new Map([[DOWN, new Float32Array(768).fill(1)]]);
    expect((await verifyReceipt(weighted, { source: openSource, importance }))[0].again).toBe("differs");
    expect(
      (await verifyReceipt(receipt, { ...only, output: fromBytes(bytes.subarray(0, 5000)) }))[0].output,
    ).toBe("outside of the file");
  });

  test("of anything else is refused with the field's name", () => {
    const good = JSON.parse(formatReceipt(receipt));
    const cases: [string, (receipt: typeof good) => void][] = [
      [
        "format",
        (r) => {
          r.format = "other";
        },
      ],
      [
        "plan",
        (r) => {
          r.plan = "abc";
        },
      ],
      [
        "tensors",
        (r) => {
          r.tensors = {};
        },
      ],
      [
        "tensors[3].source.file",
        (r) => {
          r.tensors[3].source.file = "../../etc/passwd";
        },
      ],
      [
        "tensors[0].output.byteOffset",
        (r) => {
          r.tensors[0].output.byteOffset = -1;
        },
      ],
      [
        "tensors[0].output.sha256",
        (r) => {
          r.tensors[0].output.sha256 = "00";
        },
      ],
      [
        "tensors[0].shape",
        (r) => {
          r.tensors[0].shape = [1.5];
        },
      ],
    ];
    for (const [field, change] of cases) {
      const bad = structuredClone(good);
      change(bad);
      expect(() => parseReceipt(JSON.stringify(bad)), field).toThrow(
        expect.objectContaining({ tag: "receipt/invalid", details: expect.objectContaining({ field }) }),
      );
    }
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(() => parseReceipt(text)).toThrow(expect.objectContaining({ tag: "receipt/invalid" }));
      }),
    );
  });
});

describe("isq quantize --receipt", () => {
  const at = (name: string) => join(folder, name);

  test("of a GGUF file made with importance: plan, source, output and encoding hold", async () => {
    const { program, checkpoint } = await openModel(await openDirectory(SOURCE));
    await checkpoint.close();
    const layers = program.weights.filter(({ role, layer }) => role === "linear" && layer !== 1);
    const importance = new Map(
      layers.map(({ name, shape }, seed) => [name, makeImportance({ kind: "squares", seed }, shape[1])]),
    );
    const entries = importanceEntries(importance, program, "gguf");
    writeFileSync(
      at("tiny.imatrix.gguf"),
      await writeImatrixGguf({ entries, datasets: [], chunks: 1, chunkTokens: 1 }),
    );
    const model = ["-m", SOURCE, "--isq", "Q5K", "--imatrix", at("tiny.imatrix.gguf")];
    const made = await command("quantize", "--backend", "wasm", ...model, "-o", at("q5.gguf"), "--receipt");
    expect([made.status, made.stderr.match(/isq:.*/)]).toEqual([0, null]);
    const planned = await command("plan", "--json", ...model.slice(2), "plain", ...model.slice(0, 2));
    writeFileSync(at("plan.json"), planned.stdout);
    const written = parseReceipt(readFileSync(at("q5.gguf.receipt.json"), "utf8"));
    expect(written.output.file).toBe("q5.gguf");
    const weighted = written.tensors.filter(({ importance: hash }) => hash !== null);
    expect(weighted.length).toBe(layers.length);
    const given = ["--source", SOURCE, "--output", at("q5.gguf"), "--imatrix", at("tiny.imatrix.gguf")];
    const all = await isq(at("q5.gguf.receipt.json"), ...given, "--plan", at("plan.json"), "--json");
    const checks = JSON.parse(all.stdout);
    expect(checks).toHaveLength(written.tensors.length);
    for (const { tensor, ...rest } of checks) {
      expect(rest, tensor).toEqual({ plan: "same", source: "same", output: "same", again: "same" });
    }
    const other = await command("plan", "--json", "--isq", "Q4K", "plain", ...model.slice(0, 2));
    writeFileSync(at("other.json"), other.stdout);
    const differing = await isq(at("q5.gguf.receipt.json"), "--plan", at("other.json"), "--tensor", DOWN);
    expect([differing.status, differing.stdout]).toEqual([
      1,
      expect.stringMatching(/down_proj.weight +differs/),
    ]);
  });

  test.each(["HQQ4", "FP8"])("of a safetensors file of %s: scales that lie apart are in it", async (type) => {
    const output = at(`${type}.safetensors`);
    const made = await command(
      "quantize",
      "-m",
      SOURCE,
      "--isq",
      type,
      "-o",
      output,
      "--receipt",
      at(`${type}.json`),
    );
    expect([made.status, made.stderr.match(/isq:.*/)]).toEqual([0, null]);
    const args = ["--source", SOURCE, "--output", output, "--tensor", DOWN];
    expect(await isq(at(`${type}.json`), ...args)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/down_proj.weight +not given +same +same +same\n/),
    });
    const row = parseReceipt(readFileSync(at(`${type}.json`), "utf8")).tensors.find(
      ({ tensor }) => tensor === DOWN,
    )!;
    const suffixes = (row.output.sides ?? []).map(({ suffix }) => suffix);
    expect(suffixes).toEqual({ HQQ4: [".scales", ".zeros"], FP8: [".scales"] }[type]);
    const audited = await command("audit", "--source", SOURCE, "--quantized", output);
    expect(audited.stdout).toMatch(/\nOK .*: 14 same values; 43 identical\n/);
    const last = row.output.sides?.at(-1) ?? row.output;
    const changed = readFileSync(output);
    changed[(last.byteOffset as number) + 1] ^= 0x21;
    writeFileSync(output, changed);
    expect(await isq(at(`${type}.json`), ...args)).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/down_proj.weight +not given +same +differs +same\n/),
    });
  });

  test.each(["Q4K", "HQQ4", "FP8"])("of a UQFF set of %s: every shard and the rest", async (type) => {
    const set = at(`set-${type}`);
    mkdirSync(set);
    const model = ["-m", SOURCE, "--isq", type, "-o", join(set, "tiny.uqff"), "--shard-size", "3000000"];
    const made = await command("quantize", "--backend", "wasm", ...model, "--receipt");
    expect([made.status, made.stderr.match(/isq:.*/)]).toEqual([0, null]);
    const path = join(set, "tiny.uqff.receipt.json");
    const written = parseReceipt(readFileSync(path, "utf8"));
    const files = [written.output, ...(written.output.others ?? [])].map(({ file }) => file);
    expect(files.slice(0, 2)).toEqual(["tiny-0.uqff", "tiny-1.uqff"]);
    expect(files.at(-1)).toBe("residual.safetensors");
    expect(written.tensors).toHaveLength(57);
    for (const place of [set, join(set, "tiny-0.uqff")]) {
      const { status, stdout } = await isq(path, "--source", SOURCE, "--output", place, "--json");
      expect(status).toBe(0);
      for (const { tensor, ...rest } of JSON.parse(stdout)) {
        expect(rest, tensor).toEqual({ plan: "not given", source: "same", output: "same", again: "same" });
      }
    }
    // The last byte that belongs to a tensor of the last shard, in its last side where it has some.
    const row = written.tensors.findLast(({ output }) => output.file === files.at(-2))!;
    const last = row.output.sides?.at(-1) ?? row.output;
    const changed = readFileSync(join(set, last.file as string));
    changed[(last.byteOffset as number) + last.byteLength - 1] ^= 0x41;
    writeFileSync(join(set, last.file as string), changed);
    const { status, stdout } = await isq(path, "--output", set, "--json");
    const wrong = JSON.parse(stdout).filter(({ output }: { output: string }) => output !== "same");
    expect([status, wrong.map(({ tensor }: { tensor: string }) => tensor)]).toEqual([1, [row.tensor]]);
  });

  test("replaces nothing but a receipt", async () => {
    writeFileSync(at("mine.json"), "{}");
    const args = [
      "quantize",
      "--backend",
      "wasm",
      "-m",
      SOURCE,
      "--isq",
      "Q8_0",
      "-o",
      at("q8.gguf"),
      "--receipt",
    ];
    expect(await command(...args, at("mine.json"))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/is there already and no receipt/),
    });
    expect(await command(...args, at("q8.gguf"))).toMatchObject({ status: 2 });
    writeFileSync(at("mine.json"), formatReceipt(receipt));
    expect(await command(...args, at("mine.json"))).toMatchObject({ status: 0 });
  });
});

describe("the command", () => {
  test("checks everything on disk", async () => {
    const { status, stdout, stderr } = await isq(RECEIPT, "--source", SOURCE, "--output", FILE);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/\nOK 57 tensors\n$/);
  });

  test("checks one tensor by range requests alone", async () => {
    served = [];
    const { status, stdout, stderr } = await isq(
      RECEIPT,
      "--source",
      address,
      "--output",
      `${address}/tiny.gguf`,
      "--tensor",
      Q_PROJ,
    );
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/q_proj.weight +not given +same +same +same\n\nOK 1 tensors\n$/);
    const row = receipt.tensors.find(({ tensor }) => tensor === Q_PROJ)!;
    const asked = served.map(({ range }) => /^bytes=(\d+)-(\d+)$/.exec(range ?? "")!);
    const total = asked.reduce((sum, [, from, to]) => sum + Number(to) + 1 - Number(from), 0);
    // A byte of each file, the output once, the source once for its hash and once to be encoded.
    expect(total).toBe(2 + row.output.byteLength + 2 * row.source.byteLength);
  });

  test("says what differs", async () => {
    const changed = join(folder, "changed.gguf");
    const copy = bytes.slice();
    copy[copy.length - 40] ^= 1;
    writeFileSync(changed, copy);
    const { status, stdout } = await isq(RECEIPT, "--output", changed, "--json");
    expect(status).toBe(1);
    const wrong = JSON.parse(stdout).filter((check: { output: string }) => check.output !== "same");
    expect(wrong).toHaveLength(1);
  });

  test("needs something to check, a receipt, and servers with ranges", async () => {
    expect(await isq(RECEIPT)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/nothing to check/),
    });
    expect(await isq(FILE, "--output", FILE)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/isq: /),
    });
    await expect(fromUrl(`${address}/plain`)).rejects.toMatchObject({ tag: "source/open" });
    await expect(fromUrl("http://localhost:1/x")).rejects.toMatchObject({ tag: "source/open" });
  });
});
