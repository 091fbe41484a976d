/** Choosing a backend by name, or the fastest one that runs here. */

import { IsqError, isIsqError } from "../errors.js";
import type { Backend } from "./backend.js";
import { reference } from "./reference.js";

/** Fastest first; `auto` takes the first that this runtime has. */
const OPENERS = {
  threads: async (options: OpenBackendOptions) => (await import("./threads.js")).threads(options),
  wasm: async () => (await import("./wasm.js")).wasm(),
  reference: async () => reference(),
} satisfies Record<string, (options: OpenBackendOptions) => Promise<Backend>>;

/** A backend by name; `auto` is the fastest that runs here. */
export type BackendChoice = "auto" | keyof typeof OPENERS;

/** What `--backend` and {@link openBackend} take. */
export const BACKEND_CHOICES = Object.freeze(["auto", ...Object.keys(OPENERS)]) as readonly BackendChoice[];

/** What {@link openBackend} passes on. */
export interface OpenBackendOptions {
  /** Worker threads, where there are any; as many as the machine has processors when absent. */
  readonly workers?: number;
}

/**
 * Opens a backend; the caller disposes it. Throws `option/invalid` for a name that is none, and `backend/unavailable` for
 * one that this runtime lacks, which `auto` never does.
 */
export async function openBackend(
  choice: BackendChoice = "auto",
  options: OpenBackendOptions = {},
): Promise<Backend> {
  if (options.workers !== undefined && (choice === "wasm" || choice === "reference")) {
    const message = `the ${choice} backend has no worker threads; leave their number out or take threads`;
    throw new IsqError("option/invalid", message, { field: "workers", value: options.workers });
  }
  if (choice !== "auto") {
    if (Object.hasOwn(OPENERS, choice)) return OPENERS[choice](options);
    const message = `unknown backend ${JSON.stringify(choice)}; the choices are ${BACKEND_CHOICES.join(", ")}`;
    throw new IsqError("option/invalid", message, {
      field: "backend",
      value: choice,
      limit: BACKEND_CHOICES,
    });
  }
  for (const open of Object.values(OPENERS)) {
    try {
      return await open(options);
    } catch (error) {
      if (!isIsqError(error, "backend/unavailable")) throw error;
    }
  }
  return reference();
}
