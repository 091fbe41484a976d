// The GPU measured and tested, here or on a machine that has neither Node nor npm.
//
//   node bench/gpu.mjs [--small] [--out file.json] [sections …]     runs it here
//   node bench/gpu.mjs --pack out/gpu                               makes out/gpu/gpu.tar.xz and out/gpu/run.sh for x86-64 Linux
//
// The packed folder needs a driver for Vulkan and nothing else: `bash run.sh RESULT_FOLDER [sections …]`. Sections:
// products, generation, codecs, variants, suites.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "rolldown";

const root = fileURLToPath(new URL("..", import.meta.url));
const SOFTWARE = "/usr/lib/chromium/vk_swiftshader_icd.json";
const LOADER = "/usr/lib/x86_64-linux-gnu/libvulkan.so.1";

/** One module with everything but Node and Dawn in it. */
async function bundle(file) {
  await build({
    cwd: root,
    input: "bench/gpu/main.mjs",
    platform: "node",
    external: (id) => /^(node:|koffi|webgpu)/.test(id),
    resolve: {
      alias: {
        vitest: `${root}bench/gpu/runner.mjs`,
        "#platform": `${root}src/node/platform.ts`,
      },
      extensionAlias: { ".js": [".ts", ".js"] },
    },
    output: { file, format: "esm", codeSplitting: false },
    logLevel: "warn",
  });
}

const RUN = `#!/usr/bin/env bash
# usage: run.sh RESULT_FOLDER [sections …]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
tar -xJf "$here/gpu.tar.xz" -C "$work"
ldconfig -p | grep -q libvulkan.so.1 || export LD_LIBRARY_PATH="$work/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
case $1 in /*) out=$1 ;; *) out=$PWD/$1 ;; esac
cd "$work" # tests look for models from here
export XDG_RUNTIME_DIR=\${XDG_RUNTIME_DIR:-/tmp}
exec "$work/node" --max-old-space-size=16000 "$work/bench/gpu/gpu.mjs" "$out/gpu.json" "\${GPU_SIZE:-large}" "\${@:2}"
`;

/** Puts what the tests of models read where the bundle in `${folder}/gpu` looks for it. */
function placeFixtures(folder) {
  const fixtures = `${root}test/fixtures/architectures`;
  cpSync(fixtures, `${folder}/fixtures/architectures`, { recursive: true });
  cpSync(fixtures, `${folder}/gpu/architectures`, { recursive: true });
}

async function pack(folder) {
  const stage = `${folder}/stage`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(`${stage}/lib`, { recursive: true });
  await bundle(`${stage}/bench/gpu/gpu.mjs`); // as deep as the tests, which look for the golden set two folders up
  placeFixtures(`${stage}/bench`);
  for (const name of ["tiny-mistral", "tiny-mixtral"]) {
    cpSync(`${root}models/${name}`, `${stage}/models/${name}`, { recursive: true });
  }
  mkdirSync(`${stage}/src/vectors`, { recursive: true });
  copyFileSync(`${root}src/vectors/vectors.br`, `${stage}/src/vectors/vectors.br`);
  const dawn = `${stage}/bench/gpu/node_modules/webgpu`;
  mkdirSync(`${dawn}/dist/linux-x64`, { recursive: true });
  for (const file of ["package.json", "index.js", "dist/linux-x64/dawn.node"]) {
    cpSync(`${root}node_modules/webgpu/${file}`, `${dawn}/${file}`);
  }
  copyFileSync(LOADER, `${stage}/lib/libvulkan.so.1`);
  copyFileSync(process.execPath, `${stage}/node`);
  execFileSync("strip", [`${stage}/node`, `${dawn}/dist/linux-x64/dawn.node`]);
  execFileSync("tar", ["-C", stage, "-cJf", `${folder}/gpu.tar.xz`, "."]);
  rmSync(stage, { recursive: true });
  writeFileSync(`${folder}/run.sh`, RUN, { mode: 0o755 });
}

const { values, positionals } = parseArgs({
  options: { pack: { type: "string" }, out: { type: "string" }, small: { type: "boolean" } },
  allowPositionals: true,
});
if (values.pack) {
  await pack(resolve(values.pack));
} else {
  const folder = `${root}out/bench/gpu`;
  mkdirSync(folder, { recursive: true });
  placeFixtures(`${root}out/bench`);
  await bundle(`${folder}/gpu.mjs`);
  const env = { ...process.env };
  if (values.small && existsSync(SOFTWARE)) env.VK_ICD_FILENAMES ??= SOFTWARE;
  const args = [`${folder}/gpu.mjs`, values.out ? resolve(values.out) : "", values.small ? "small" : "large"];
  const { status } = spawnSync(process.execPath, [...args, ...positionals], { stdio: "inherit", env });
  process.exitCode = status ?? 1;
}
