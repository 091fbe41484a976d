// Runs the suite in a page of scripts/runtimes.mjs, which fetches everything from its own server.
import { readVectors } from "../dist/vectors/index.js";
import { listFeatures, runEverything } from "../out/runtimes/suite.mjs";

async function get(path) {
  const response = await fetch(`/${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

export { listFeatures as features };

export function run(quick) {
  const host = {
    read: async (path) => new Uint8Array(await (await get(path)).arrayBuffer()),
    list: async (folder) => (await get(folder)).json(),
    readVectors,
  };
  return runEverything(host, { quick, log: (line) => console.log(line) });
}
