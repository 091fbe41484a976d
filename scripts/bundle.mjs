// Makes one JavaScript module of TypeScript files that are not part of dist/: tools and pages that live beside src/.
import { readFileSync } from "node:fs";
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
