// Compiles assembly/ to build/isq.wasm and embeds the bytes in src/backends/wasm-bytes.ts, so that bundlers, workers and
// browsers need no path. Does nothing when the result is newer than every source; `--force` compiles all the same.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = fileURLToPath(new URL("..", import.meta.url));
const wasm = `${root}/build/isq.wasm`;
const embedded = `${root}/src/backends/wasm-bytes.ts`;

function modifiedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function isCurrent() {
  const sources = readdirSync(`${root}/assembly`).map((name) => `${root}/assembly/${name}`);
  const newest = Math.max(...[...sources, `${root}/asconfig.json`].map(modifiedAt));
  return modifiedAt(wasm) > newest && modifiedAt(embedded) > newest;
}

async function compile() {
  mkdirSync(`${root}/build`, { recursive: true });
  const options = ["--config", "asconfig.json", "--target", "release", "--baseDir", root];
  const { error, stderr } = await asc.main(options);
  if (error) {
    console.error(stderr.toString());
    throw error;
  }
}

if (process.argv.includes("--force") || !isCurrent()) {
  await compile();
  const bytes = readFileSync(wasm);
  const text = bytes.toString("base64");
  writeFileSync(
    embedded,
    `// Written by scripts/build-wasm.mjs.\nexport const WASM_BASE64 =\n  "${text}";\n`,
  );
  console.log(`${wasm.slice(root.length)}: ${bytes.length} bytes`);
}
