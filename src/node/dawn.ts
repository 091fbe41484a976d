/** WebGPU in Node: Dawn, from the optional package `webgpu`. */

import { IsqError } from "../errors.js";

/** The version that is tested; neighbouring ones need newer C++ runtimes than Debian 12 has. */
const PACKAGE = "webgpu@0.6.2";

interface Dawn {
  create(flags: string[]): GPU;
  readonly globals: Record<string, unknown>;
}

/** Instances live as long as the process: a device whose instance was collected crashes it at exit. */
const kept: GPU[] = [];
const devices = new Set<GPUDevice>();
let hooked = false;

/**
 * What Dawn is told: workgroup memory is written before it is read in all kernels, and clearing it first costs time (in
 * SwiftShader's compiler, most of it); timestamps are for measuring.
 */
const FLAGS = ["enable-dawn-features=disable_workgroup_init", "disable-dawn-features=timestamp_quantization"];

/**
 * Opens Dawn on the adapter whose name has this part, or on the n-th name. Throws `backend/unavailable` when the package is
 * not installed or does not load, or there is no such adapter.
 */
export async function openGpu(adapter?: string | number): Promise<GPU> {
  const name = "webgpu"; // not a literal, so that bundlers do not look for an optional package
  let dawn: Dawn;
  try {
    dawn = (await import(name)) as Dawn;
  } catch (cause) {
    const message = `WebGPU in Node needs a package that is not installed or does not load: npm install ${PACKAGE}`;
    throw new IsqError("backend/unavailable", message, { field: "backend", value: "webgpu" }, { cause });
  }
  const create = (flags: readonly string[]) => {
    const gpu = dawn.create([...FLAGS, ...flags]);
    kept.push(gpu);
    return gpu;
  };
  if (adapter === undefined) return create([]);
  const names = await listAdapters(create);
  const chosen =
    typeof adapter === "number" ? names[adapter] : names.find((known) => known.includes(adapter));
  if (chosen !== undefined) return create([`adapter=${chosen}`]);
  const limit = names.map((known, n) => `${n}: ${known}`);
  const message = `there is no GPU ${JSON.stringify(adapter)}; there are ${limit.join(", ") || "none"}`;
  throw new IsqError("backend/unavailable", message, { field: "adapter", value: adapter, limit });
}

/** Dawn names its adapters when it is asked for one that there is not. Alike ones come once: it goes by name. */
async function listAdapters(create: (flags: readonly string[]) => GPU): Promise<string[]> {
  const message = await create(["adapter=\u0001"])
    .requestAdapter()
    .then(
      () => "",
      (error: Error) => error.message,
    );
  return [...new Set([...message.matchAll(/name: '(.*)'/g)].map(([, name]) => name))];
}

/** Destroys the device at exit at the latest: one that is alive then can crash the process. */
export function destroyAtExit(device: GPUDevice): void {
  devices.add(device);
  device.lost.then(() => devices.delete(device));
  if (hooked) return;
  hooked = true;
  process.on("exit", () => {
    for (const open of devices) open.destroy();
  });
}
