// Builds the WebAssembly module and embeds it, the shaders and the server's page, then dist/ from src/ (type check, JavaScript, declarations),
// then the pages of docs/. Starts from an empty folder, so that nothing stale ships.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { buildPages, embedServerPage } from "./build-pages.mjs";
import { bundleForBrowser } from "./bundle.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

for (const script of ["build-wasm", "build-gpu"]) {
  execFileSync(process.execPath, [`${root}/scripts/${script}.mjs`], { cwd: root, stdio: "inherit" });
}
await embedServerPage();
rmSync(`${root}/dist`, { recursive: true, force: true });
execFileSync(process.execPath, [tsc, "-p", "tsconfig.json"], { cwd: root, stdio: "inherit" });
for (const file of ["vectors.br", "PROVENANCE.md"]) {
  copyFileSync(`${root}/src/vectors/${file}`, `${root}/dist/vectors/${file}`);
}
await bundleForBrowser("dist/web/worker.js", "dist/web/worker.js");
rmSync(`${root}/dist/web/worker.js.map`);
chmodSync(`${root}/dist/cli/main.js`, 0o755);
await buildPages();
