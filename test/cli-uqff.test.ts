/** Sets of UQFF files, as a user makes and uses them: the built command in a process of its own. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { openSafetensors } from "../src/files/safetensors.js";
import { fromBytes } from "../src/files/source.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MODEL = ["-m", "models/tiny-mistral"];
const folder = mkdtempSync(join(tmpdir(), "isq-"));
const at = (name: string) => join(folder, name);

function isq(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["dist/cli/main.js", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

describe("UQFF", () => {
  const set = at("set");
  beforeAll(() => {
    mkdirSync(set);
    const output = join(set, "tiny.uqff");
    const { status, stdout } = isq(
      "quantize",
      ...MODEL,
      "--isq",
      "Q4K,fp8",
      "-o",
      output,
      "--shard-size",
      "2000000",
    );
    expect([status, stdout.match(/tiny-\w+-0\.uqff: \d+ bytes/g)?.length]).toEqual([0, 2]);
  });

  test("several types share the rest of the model, and one report", async () => {
    expect(readdirSync(set).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "residual.safetensors",
      ...[0, 1, 2].map((i) => `tiny-fp8-${i}.uqff`),
      ...[0, 1].map((i) => `tiny-q4k-${i}.uqff`),
      "tokenizer.json",
      "tokenizer_config.json",
      "uqff_report.json",
    ]);
    const report = JSON.parse(readFileSync(join(set, "uqff_report.json"), "utf8"));
    const outputs = report.outputs.map(({ quant, layers }: { quant: string; layers: number }) => [
      quant,
      layers,
    ]);
    expect(outputs).toEqual([
      ["q4k", 43],
      ["fp8", 43],
    ]);
    const { metadata } = await openSafetensors(fromBytes(readFileSync(join(set, "tiny-q4k-1.uqff"))));
    expect(metadata.get("uqff.version")).toBe("1.2.0");
    expect(metadata.get("isq.encoders")).toBe("Q4K=ggml");
    expect(metadata.get("isq.sources")).toMatch(/^[0-9a-f]{64}:model\.safetensors$/);
  });

  test("the folder is a model that runs, is inspected, verified and audited", () => {
    const text = isq("run", "-p", "The database", "-n", "4", "plain", "-m", set, "--from-uqff", "q4k");
    const direct = isq("run", "-p", "The database", "-n", "4", "--isq", "Q4K", "plain", ...MODEL);
    expect([text.status, text.stdout]).toEqual([0, direct.stdout]);
    const first = join(set, "tiny-fp8-0.uqff");
    const { tensors } = JSON.parse(isq("inspect", first, "--json").stdout);
    const head = tensors.find(({ name }: { name: string }) => name === "lm_head.weight");
    expect(head).toMatchObject({
      type: "FP8",
      shape: [4096, 256],
      sha256: expect.stringMatching(/^\w{64}$/),
    });
    expect(isq("verify", set).stdout.match(/: whole/g)).toHaveLength(6);
    const audit = isq("audit", "--quantized", first, "--source", "models/tiny-mistral");
    expect([audit.status, /43 identical/.test(audit.stdout)]).toEqual([0, true]);
    const folderAudit = isq("audit", "--quantized", set);
    expect([folderAudit.status, folderAudit.stderr]).toEqual([
      2,
      `isq: ${set} is a folder; name a file of it\n`,
    ]);
  });

  test("a set that is there or lacks a part is one sentence", () => {
    const again = isq("quantize", ...MODEL, "--isq", "Q4K,fp8", "-o", join(set, "tiny.uqff"));
    expect([again.status, /tiny-q4k-0\.uqff is there already/.test(again.stderr)]).toEqual([2, true]);
    const twice = isq("quantize", ...MODEL, "--isq", "Q4K,q4_k", "-o", join(set, "x.uqff"));
    expect([twice.status, /Q4K comes twice/.test(twice.stderr)]).toEqual([2, true]);
    const whole = isq(
      "quantize",
      ...MODEL,
      "--isq",
      "Q4K",
      "-o",
      at("x.safetensors"),
      "--shard-size",
      "1000000",
    );
    expect([
      whole.status,
      /x\.safetensors is one file: GGUF and UQFF are written in shards/.test(whole.stderr),
    ]).toEqual([2, true]);
    const nothing = isq("quantize", ...MODEL, "-o", join(set, "x.uqff"));
    expect([nothing.status, /there are none/.test(nothing.stderr)]).toEqual([2, true]);
    renameSync(join(set, "tiny-q4k-1.uqff"), at("elsewhere"));
    const verified = isq("verify", join(set, "tiny-q4k-0.uqff"));
    expect([verified.status, /tiny-q4k-1\.uqff, which is missing/.test(verified.stderr)]).toEqual([2, true]);
  });
});
