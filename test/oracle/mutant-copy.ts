/** A compiled copy of the quantizers in a temporary folder, in which a mistake can be planted. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import type { Mutant } from "../../src/vectors/mutants.js";

const source = fileURLToPath(new URL("../../src", import.meta.url));

export interface QuantsCopy {
  /** The copy of src/quants. */
  readonly folder: string;
  plant(mutant: Mutant): void;
  /** Takes a mistake out again. */
  restore(mutant: Mutant): void;
  remove(): void;
}

export function copyQuants(): QuantsCopy {
  const copy = mkdtempSync(join(tmpdir(), "isq-quants-"));
  mkdirSync(join(copy, "quants"));
  writeFileSync(join(copy, "package.json"), '{ "type": "module" }');
  const read = (path: string) => readFileSync(join(source, path), "utf8");
  const compile = (path: string, code: string) => {
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    const { outputText } = ts.transpileModule(code, { compilerOptions });
    writeFileSync(join(copy, path.replace(/\.ts$/, ".js")), outputText);
  };
  const quants = readdirSync(join(source, "quants")).map((file) => `quants/${file}`);
  for (const path of ["errors.ts", "limits.ts", "math.ts", "numerics.ts", ...quants])
    compile(path, read(path));
  return {
    folder: join(copy, "quants"),
    plant({ file, text, replacement }) {
      const parts = read(`quants/${file}`).split(text);
      if (parts.length !== 2) throw new Error(`"${text}" occurs ${parts.length - 1} times in ${file}`);
      compile(`quants/${file}`, parts.join(replacement));
    },
    restore: ({ file }) => compile(`quants/${file}`, read(`quants/${file}`)),
    remove: () => rmSync(copy, { recursive: true, force: true }),
  };
}
