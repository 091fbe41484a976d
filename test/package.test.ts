/** What the package promises as a package: no runtime module at import, a frozen export list, files that match the table. */

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { TABLE } from "../src/quants/table.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "src");

/** All files that importing `entry` loads: static imports only, followed through the sources. */
function loadedBy(entry: string): { files: Set<string>; packages: Set<string> } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const code = readFileSync(file, "utf8");
    const imports = code.matchAll(
      /^(?:import|export)\s+(?!type\b)[^;]*?from\s+"([^"]+)"|^import\s+"([^"]+)"/gm,
    );
    for (const match of imports) {
      const name = match[1] ?? match[2];
      if (name.startsWith(".")) visit(resolve(dirname(file), name.replace(/\.js$/, ".ts")));
      else packages.add(name);
    }
  };
  visit(join(source, entry));
  return { files, packages };
}

/** Exports of the built package, seen as a user sees them. */
function exportsOf(name: string): string[] {
  const script = `console.log(JSON.stringify(Object.keys(await import(${JSON.stringify(name)})).sort()))`;
  return JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: root, encoding: "utf8" }),
  );
}

describe("importing", () => {
  test.each([
    ["index.ts"],
    ["quants/index.ts"],
    ["backends/wasm.ts"],
    ["backends/threads.ts"],
    ["backends/webgpu.ts"],
    ["web/platform.ts"],
    ["web/crew.ts"],
    ["web/worker.ts"],
    ["oracle/index.ts"],
    ["vectors/index.ts"],
  ])("%s loads no node module and none of the entry points", (entry) => {
    const { files, packages } = loadedBy(entry);
    expect([...packages].filter((name) => name.startsWith("node:"))).toEqual([]);
    const apart = [...files].filter((file) => /^(node|cli|server)\//.test(relative(source, file)));
    expect(apart).toEqual([]);
  });

  test("the built package loads no node module either", () => {
    for (const name of ["isq", "isq/quants", "isq/wasm", "isq/threads", "isq/webgpu", "isq/oracle"]) {
      const code = `
        const before = new Set(process.moduleLoadList);
        await import(${JSON.stringify(name)});
        const added = process.moduleLoadList.filter((m) => !before.has(m) && /^NativeModule (fs|path|worker_threads|os|child_process|http|net)$/.test(m));
        console.log(JSON.stringify(added));`;
      const added = execFileSync(process.execPath, ["--input-type=module", "-e", code], {
        cwd: root,
        encoding: "utf8",
      });
      expect(JSON.parse(added), name).toEqual([]);
    }
  });

  test("workers of browsers import nothing: they have no import map", () => {
    expect(readFileSync(join(root, "dist/web/worker.js"), "utf8")).not.toMatch(/^import\b|\bimport\(/m);
  });

  test("only src/node, src/cli and src/server import node:*", () => {
    const offenders = readdirSync(source, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts") && !/^(node|cli|server)\//.test(file))
      .filter((file) => /from "node:|import\("node:/.test(readFileSync(join(source, file), "utf8")));
    expect(offenders).toEqual([]);
  });
});

describe("exports", () => {
  test("isq", () => {
    expect(exportsOf("isq")).toMatchInlineSnapshot(`
      [
        "ALGORITHM_CHOICES",
        "ARCHITECTURE_NAMES",
        "BACKEND_CHOICES",
        "COST_COLUMNS",
        "DEVICE_CHOICES",
        "ERROR_TAGS",
        "IsqError",
        "ORGANIZATIONS",
        "Runner",
        "TYPES",
        "TYPE_NAMES",
        "TextModel",
        "TextModelBuilder",
        "Which",
        "audit",
        "bitsPerWeight",
        "chunkTokens",
        "compilePattern",
        "dequantize",
        "encodeImatrix",
        "formatPlan",
        "formatReceipt",
        "formatTable",
        "formatTopology",
        "fromBlob",
        "fromBytes",
        "fromFiles",
        "fromUrl",
        "ggufPlaces",
        "imatrixFormatOf",
        "importanceEntries",
        "isIsqError",
        "klDivergence",
        "makeReceipt",
        "matchImportance",
        "measureDivergence",
        "measurePerplexity",
        "openBackend",
        "openImatrix",
        "openModel",
        "parseReceipt",
        "parseType",
        "plan",
        "proposeTypes",
        "quantile",
        "quantize",
        "quantizeModel",
        "readImatrix",
        "readTopologyFile",
        "reference",
        "renderCostPage",
        "tensorError",
        "tokenLosses",
        "verifyReceipt",
        "writeCimatrix",
        "writeImatrixGguf",
        "writeLegacyImatrix",
      ]
    `);
  });

  test("isq/wasm, isq/threads, isq/webgpu", () => {
    expect(exportsOf("isq/wasm")).toEqual(["wasm"]);
    expect(exportsOf("isq/threads")).toEqual(["threads"]);
    expect(exportsOf("isq/webgpu")).toEqual(["webgpu"]);
  });

  test("isq/server", () => {
    expect(exportsOf("isq/server")).toEqual(["SERVER_LIMITS", "openLog", "startServer"]);
  });

  test("isq/oracle", () => {
    expect(exportsOf("isq/oracle")).toMatchInlineSnapshot(`
      [
        "OPERATIONS",
        "STREAM_FORMATS",
        "TENSOR_VERDICTS",
        "answerByteLength",
        "auditTensor",
        "compareAnswer",
        "createJudge",
        "expectedAnswer",
        "explainAnswer",
        "explainDecoded",
        "explainDot",
        "explainRow",
        "explanationLines",
        "formatExplanation",
        "formatVerdict",
        "inputByteLengths",
        "inputBytes",
        "inspectTensor",
        "makeCase",
        "makeSpec",
        "openTensorAudit",
        "packTensor",
        "parseBinaryHeader",
        "parseHeaderLine",
        "readBlock",
        "unpackTensor",
        "writeAnswer",
        "writeCase",
        "writeHeader",
      ]
    `);
  });

  test("isq/quants", () => {
    expect(exportsOf("isq/quants")).toMatchInlineSnapshot(`
      [
        "IsqError",
        "TYPES",
        "TYPE_NAMES",
        "bitsPerWeight",
        "byteLengthOf",
        "checkQuantize",
        "checkTensor",
        "dequantize",
        "dot",
        "isIsqError",
        "parseAlgorithm",
        "parseType",
        "quantize",
      ]
    `);
  });
});

describe("the house", () => {
  test("README's generated parts are what the tables say", () => {
    execFileSync(process.execPath, ["scripts/readme.mjs", "--check"], { cwd: root });
  });

  test("docs/commands.md is what the flags say", () => {
    execFileSync(process.execPath, ["scripts/commands.mjs", "--check"], { cwd: root });
  });

  test("every row of the table has its codec file, and no codec file lacks a row", () => {
    const stems = TABLE.map((row) => row.stem);
    for (const stem of stems) expect(existsSync(join(source, "quants", `${stem}.ts`)), stem).toBe(true);
    const typeLike = readdirSync(join(source, "quants")).filter((file) =>
      /^(q\d+_[0-9k]|hqq\d|fp\d+)\.ts$/.test(file),
    );
    expect(typeLike.map((file) => file.replace(".ts", "")).sort()).toEqual([...stems].sort());
    for (const [folder, extension] of [
      ["assembly", "ts"],
      ["gpu", "wgsl"],
    ]) {
      const twins = readdirSync(join(root, folder))
        .filter((file) => /^(q\d+_[0-9k]|hqq\d|fp\d+)\./.test(file))
        .map((file) => file.replace(`.${extension}`, ""));
      expect(twins.sort(), folder).toEqual([...stems].sort());
    }
  });

  test("files/ knows of the quantizers only their table", () => {
    for (const file of readdirSync(join(source, "files"))) {
      const code = readFileSync(join(source, "files", file), "utf8");
      const imports = [...code.matchAll(/from "(\.\.\/quants\/[^"]+)"/g)].map((match) => match[1]);
      expect(
        imports.filter((name) => name !== "../quants/table.js"),
        file,
      ).toEqual([]);
    }
  });
});
