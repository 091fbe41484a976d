import { readFileSync, statSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { describe, expect, it } from "vitest";
import { loadVectors } from "./load.js";

const here = (name: string): URL => new URL(`../../src/vectors/${name}`, import.meta.url);
const provenance = readFileSync(here("PROVENANCE.md"), "utf8");

describe("golden vectors", () => {
  it("are the ones whose origin is written down", () => {
    const unpacked = brotliDecompressSync(readFileSync(here("vectors.br")));
    expect(provenance).toContain(`| vectors.br, unpacked | \`${bytesToHex(sha256(unpacked))}\` |`);
    for (const [file, hash] of Object.entries(loadVectors().source)) {
      expect(provenance).toContain(`| ${file} | \`${hash}\` |`);
    }
  });

  it("stay under 3 MB", () => {
    expect(statSync(here("vectors.br")).size).toBeLessThan(3_000_000);
  });

  it("exclude exactly the rows of the source, each with a reason", () => {
    const { excluded } = loadVectors();
    expect(excluded).toHaveLength(62);
    for (const { reason } of excluded) expect(reason).toMatch(/NaN|zero|undefined/);
  });
});
