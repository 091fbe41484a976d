/** The worker threads of browsers. */

import { type Crew, checkWorkers } from "../backends/pool.js";
import type { WorkerAnswer, WorkerTask } from "../backends/threads-protocol.js";
import { IsqError } from "../errors.js";

/** Starts the workers. Throws `option/invalid`, and `backend/unavailable` where pages have no threads with shared memory. */
export async function openCrew(workers: number = navigator.hardwareConcurrency || 1): Promise<Crew> {
  const members = checkWorkers(workers);
  checkRuntime();
  return new WorkerCrew(members);
}

function checkRuntime(): void {
  const missing =
    typeof Worker === "undefined"
      ? "this runtime has no workers"
      : globalThis.crossOriginIsolated !== true || typeof SharedArrayBuffer === "undefined"
        ? "this page may not share memory with workers (its server does not send the headers " +
          "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)"
        : null;
  if (missing === null) return;
  const message = `the threads backend cannot run: ${missing}; use isq/wasm`;
  throw new IsqError("backend/unavailable", message, { field: "backend", value: "threads" });
}

interface Waiting {
  readonly resolve: (answer: WorkerAnswer) => void;
  readonly reject: (reason: Error) => void;
}

class WorkerCrew implements Crew {
  readonly members: number;
  readonly readsBlobs = true;
  readonly #idle: Worker[] = [];
  /** Those that have done something: the others may be of a kind that cannot even start. */
  readonly #proven = new WeakSet<Worker>();
  readonly #busy = new Map<Worker, Waiting>();

  constructor(members: number) {
    this.members = members;
    for (let i = 0; i < members; i++) this.#start();
  }

  get processors(): number {
    return navigator.hardwareConcurrency || 1;
  }

  run(task: WorkerTask): Promise<WorkerAnswer> {
    const worker = this.#idle.pop();
    if (!worker) return Promise.reject(new Error("no worker is free"));
    return new Promise((resolve, reject) => {
      this.#busy.set(worker, { resolve, reject });
      worker.postMessage(task);
    });
  }

  async close(): Promise<void> {
    for (const worker of [...this.#idle, ...this.#busy.keys()]) worker.terminate();
    for (const { reject } of this.#busy.values()) reject(new Error("the worker was ended"));
    this.#idle.length = 0;
    this.#busy.clear();
  }

  #start(): void {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<WorkerAnswer>) => {
      const waiting = this.#busy.get(worker);
      this.#busy.delete(worker);
      this.#idle.push(worker);
      this.#proven.add(worker);
      waiting?.resolve(data);
    });
    for (const kind of ["error", "messageerror"] as const) {
      worker.addEventListener(kind, (event) => {
        event.preventDefault();
        this.#replace(worker, event instanceof ErrorEvent && event.message ? event.message : kind);
      });
    }
    this.#idle.push(worker);
  }

  #replace(worker: Worker, reason: string): void {
    worker.terminate();
    const waiting = this.#busy.get(worker);
    this.#busy.delete(worker);
    const at = this.#idle.indexOf(worker);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.#proven.has(worker)) this.#start();
    waiting?.reject(new Error(reason));
  }
}
