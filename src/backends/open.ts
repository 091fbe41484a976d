/** Choosing a backend by name, or the fastest one that runs here. */

import { IsqError, isIsqError } from "../errors.js";
import { type Device, parseDevice } from "../topology.js";
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
  /** Where models run; `cpu` when absent. */
  readonly device?: DeviceChoice;
}

/** A device, or `auto`: the first GPU that is none in software, else the CPU. */
export type DeviceChoice = "auto" | Device;

/** Parses what `--device` takes. Throws `topology/device`. */
export function parseDeviceChoice(value: string): DeviceChoice {
  return value === "auto" ? value : parseDevice(value);
}

/** Opens the GPU of a device. Throws `backend/unavailable`. */
export async function openGpuDevice(device: Device): Promise<Backend> {
  const number = /^webgpu\[(\d+)\]$/.exec(device)?.[1];
  const { webgpu } = await import("./webgpu.js");
  return webgpu(number === undefined ? {} : { adapter: Number(number) });
}

/** The GPU that `auto` means, or null. */
async function findGpu(): Promise<Backend | null> {
  try {
    const { webgpu } = await import("./webgpu.js");
    const gpu = await webgpu();
    if (!gpu.adapter.isSoftware && gpu.probe.exactness !== "tolerant") return gpu;
    await gpu.dispose();
    return null;
  } catch (error) {
    if (isIsqError(error, "backend/unavailable")) return null;
    throw error;
  }
}

/** Throws `option/conflict` for a device beside a backend or threads. */
export function checkDeviceOptions(
  choice: BackendChoice,
  { workers, device = "cpu" }: OpenBackendOptions,
): void {
  if (device === "cpu" || (choice === "auto" && workers === undefined)) return;
  const field = choice === "auto" ? "workers" : "backend";
  const message = `the device ${device} is chosen instead of ${field}; leave one of them out`;
  throw new IsqError("option/conflict", message, { field, value: device });
}

/**
 * Opens a backend; the caller disposes it. Throws `option/invalid` for a name that is none, and `backend/unavailable` for
 * one that this runtime lacks, which `auto` never does.
 */
export async function openBackend(
  choice: BackendChoice = "auto",
  options: OpenBackendOptions = {},
): Promise<Backend> {
  const { device = "cpu" } = options;
  checkDeviceOptions(choice, options);
  const gpu = device === "auto" ? await findGpu() : device === "cpu" ? null : await openGpuDevice(device);
  if (gpu) return gpu;
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
