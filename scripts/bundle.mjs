// Makes one JavaScript module of TypeScript files that are not part of dist/: tools and pages that live beside src/.
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "rolldown";

export const root = fileURLToPath(new URL("..", import.meta.url));

/** Packages of the project stay imports where a module is to run in Node. */
const { dependencies, devDependencies } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
const PACKAGES = Object.keys({ ...dependencies, ...devDependencies });

/** Bundles for Node; `#platform` and packages are resolved when the module runs, from a folder inside the project. */
export async function bundleForNode(entry, file) {
  await build({
    cwd: root,
    input: entry,
    platform: "node",
    external: (id) =>
      /^(node:|#)/.test(id) || PACKAGES.some((name) => id === name || id.startsWith(`${name}/`)),
    output: { file, format: "esm", sourcemap: true, codeSplitting: false },
    logLevel: "warn",
  });
}

/** Bundles for browsers, everything in one file: workers get no import map, and a page may be opened without a server. */
export async function bundleForBrowser(entry, file, options = {}) {
  await build({
    cwd: root,
    input: entry,
    platform: "browser",
    output: { file, format: "esm", codeSplitting: false, ...options },
    logLevel: "warn",
  });
}

/**
 * Bundles what takes the package as it was built: imports of src/ become imports of dist/, and the module has to lie two
 * folders below the root. Packages of tests are part of it.
 */
export async function bundleOverDist(entry, file) {
  const src = `${root}src/`;
  await build({
    cwd: root,
    input: entry,
    platform: "neutral",
    resolve: { mainFields: ["module", "main"], conditionNames: ["import"] },
    plugins: [
      {
        name: "dist",
        resolveId(id, importer) {
          if (!importer || !id.startsWith(".")) return null;
          const path = resolve(dirname(importer), id);
          return path.startsWith(src) ? { id: `isq-dist/${path.slice(src.length)}`, external: true } : null;
        },
      },
    ],
    output: {
      file,
      format: "esm",
      codeSplitting: false,
      paths: (id) => id.replace(/^isq-dist\//, "../../dist/"),
    },
    logLevel: "warn",
  });
}

/** The script of a page that lies in pages/, with everything it needs. */
export async function bundlePage(entry) {
  const { output } = await build({
    cwd: root,
    input: entry,
    platform: "browser",
    resolve: { alias: { "#platform": `${root}src/web/platform.ts` } },
    output: { format: "esm", codeSplitting: false, comments: false },
    write: false,
    logLevel: "warn",
  });
  return output[0].code;
}
