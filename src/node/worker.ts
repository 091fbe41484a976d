/** The worker of the threads backend under Node, Deno and Bun; Piscina calls it. */

import { startWorker } from "../backends/worker.js";
import { createCollector } from "./collect.js";
import { openFileSync } from "./file-reader.js";

export default startWorker({ openFile: openFileSync, ...createCollector() });
