/** Finding an adapter and opening a device on it. */

import { IsqError } from "../errors.js";

/** What an adapter says of itself. */
export interface AdapterDescription {
  /** For people. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** A GPU in software. */
  readonly isSoftware: boolean;
  /** Threads of its subgroups, where it has them and they have the same size in all kernels; else 0. */
  readonly lanes: number;
}

/** Opens the runtime's WebGPU where `navigator.gpu` is absent, or an adapter is asked for by name or number. */
export type GpuOpener = (adapter?: string | number) => Promise<GPU>;

/** Features that are used where they are. */
const WANTED: readonly GPUFeatureName[] = ["timestamp-query", "subgroups"];
/** Of gpu/attention-step.wgsl: four threads share a position. */
const LEAST_LANES = 4;
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
] as const;

export async function requestDevice(
  choice: GPUAdapter | string | number | undefined,
  openGpu: GpuOpener,
): Promise<{ device: GPUDevice; description: AdapterDescription }> {
  const adapter = typeof choice === "object" ? choice : await findAdapter(choice, openGpu);
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = WANTED.filter((name) => adapter.features.has(name));
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
  } catch (cause) {
    const message = `the GPU ${nameOf(adapter.info)} gives no device: ${(cause as Error).message}`;
    throw new IsqError("backend/unavailable", message, { field: "adapter" }, { cause });
  }
  const { vendor, architecture, device: model, description } = adapter.info;
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  const isFixed = device.features.has("subgroups") && subgroupMinSize === subgroupMaxSize;
  return {
    device,
    description: {
      lanes: isFixed && subgroupMinSize >= LEAST_LANES ? subgroupMinSize : 0,
      name: nameOf(adapter.info),
      vendor,
      architecture,
      device: model,
      description,
      isSoftware: /swiftshader|llvmpipe|lavapipe|basic render/i.test(
        `${nameOf(adapter.info)} ${description}`,
      ),
    },
  };
}

async function findAdapter(choice: string | number | undefined, openGpu: GpuOpener): Promise<GPUAdapter> {
  const own = choice === undefined ? globalThis.navigator?.gpu : undefined;
  const gpu = own ?? (await openGpu(choice));
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (adapter) return adapter;
  const message = "WebGPU found no GPU; a driver for Vulkan, Metal or Direct3D 12 has to be there";
  throw new IsqError("backend/unavailable", message, { field: "adapter", value: choice ?? null });
}

function nameOf({ description, device, vendor, architecture }: GPUAdapterInfo): string {
  return device || description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
}
