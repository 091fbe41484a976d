// Embeds gpu/*.wgsl in src/backends/webgpu-shaders.ts, so that bundlers and browsers need no path. Comments and indentation
// stay behind.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const embedded = `${root}/src/backends/webgpu-shaders.ts`;

/** A shader without what only people read. */
function strip(text) {
  const lines = text.split("\n").map((line) => line.replace(/\/\/.*$/, "").trim());
  return lines.filter((line) => line !== "").join("\n");
}

const names = readdirSync(`${root}/gpu`)
  .filter((name) => name.endsWith(".wgsl"))
  .sort();
const entries = names.map((name) => {
  const text = strip(readFileSync(`${root}/gpu/${name}`, "utf8"));
  return `  ${JSON.stringify(name.slice(0, -5))}: ${JSON.stringify(text)},\n`;
});
const code = `// Written by scripts/build-gpu.mjs.\nexport const SHADERS = {\n${entries.join("")}} as const;\n`;
let before = "";
try {
  before = readFileSync(embedded, "utf8");
} catch {
  // the first build
}
if (before !== code) {
  writeFileSync(embedded, code);
  console.log(`src/backends/webgpu-shaders.ts: ${names.length} shaders, ${code.length} bytes`);
}
