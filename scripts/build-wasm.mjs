// Compiles assembly/ to build/isq.wasm. With `--shared` the module imports a shared memory (build/isq-shared.wasm), with
// `--embed FILE` a TypeScript module with the bytes in base64 is written too, so that bundlers, workers and browsers need no
// path; `--if-changed` does nothing when the result is newer than every source.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = fileURLToPath(new URL("..", import.meta.url));
const shared = process.argv.includes("--shared");
const embed = process.argv.includes("--embed")
  ? process.argv[process.argv.indexOf("--embed") + 1]
  : undefined;
const wasm = `${root}/build/${shared ? "isq-shared" : "isq"}.wasm`;

function modifiedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function isCurrent() {
  const sources = readdirSync(`${root}/assembly`).map((name) => `${root}/assembly/${name}`);
  const newest = Math.max(...[...sources, `${root}/asconfig.json`].map(modifiedAt));
  return [wasm, ...(embed ? [`${root}/${embed}`] : [])].every((path) => modifiedAt(path) > newest);
}

async function compile() {
  mkdirSync(`${root}/build`, { recursive: true });
  const target = shared ? "shared" : "single";
  const { error, stderr } = await asc.main([
    "--config",
    "asconfig.json",
    "--target",
    target,
    "--baseDir",
    root,
  ]);
  if (error) {
    console.error(stderr.toString());
    throw error;
  }
}

if (!process.argv.includes("--if-changed") || !isCurrent()) {
  await compile();
  const bytes = readFileSync(wasm);
  if (embed) {
    const text = `// Written by scripts/build-wasm.mjs.\nexport const WASM_BASE64 =\n  "${bytes.toString("base64")}";\n`;
    writeFileSync(`${root}/${embed}`, text);
  }
  console.log(`${wasm.slice(root.length)}: ${bytes.length} bytes`);
}
