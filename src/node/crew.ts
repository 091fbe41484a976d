/** The worker threads of Node, Deno and Bun, through Piscina. */

import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { type Crew, checkWorkers } from "../backends/pool.js";

/** Workers run JavaScript: where this module itself is TypeScript (in tests), they take the built file. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/node/worker.js" : "worker.js",
  import.meta.url,
);

/** Starts the workers. Throws `option/invalid`. */
export async function openCrew(workers: number = availableParallelism()): Promise<Crew> {
  const members = checkWorkers(workers);
  const piscina = new Piscina({
    filename: fileURLToPath(WORKER),
    minThreads: members,
    maxThreads: members,
    execArgv: [],
  });
  return {
    members,
    processors: availableParallelism(),
    readsBlobs: false,
    run: (task) => piscina.run(task),
    close: () => piscina.destroy(),
  };
}
