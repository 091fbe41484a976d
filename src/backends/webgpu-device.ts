/** A GPU device with what all kernels share: pipelines made once, buffers that grow, and errors that have tags. */

import { IsqError } from "../errors.js";
import { type ModuleName, moduleText } from "./webgpu-modules.js";

/** Buffers that are kept from call to call, by what they hold. */
export type BufferName =
  | "parameters"
  | "values"
  | "words"
  | "scratch"
  | "result"
  | "report"
  | "sums"
  | "readback";

/**
 * What a kernel sees. `codec`: values, words, scratch, result, report. `linear`: activations, weights, sides, sums. `op`:
 * the step, slots, two arrays, a cache. `fused`: three matrices, slots, a norm.
 */
export type LayoutName = "codec" | "linear" | "op" | "fused";

const LAYOUTS: Readonly<Record<LayoutName, readonly GPUBufferBindingType[]>> = {
  codec: ["uniform", "read-only-storage", "read-only-storage", "storage", "storage", "storage"],
  linear: ["uniform", "read-only-storage", "read-only-storage", "read-only-storage", "storage"],
  fused: [
    "uniform",
    "read-only-storage",
    "read-only-storage",
    "read-only-storage",
    "storage",
    "read-only-storage",
  ],
  op: ["uniform", "read-only-storage", "storage", "read-only-storage", "read-only-storage", "storage"],
};

export interface KernelChoice {
  readonly type: ModuleName;
  readonly entryPoint: string;
  readonly constants?: Readonly<Record<string, number>>;
  /** `codec` when absent. */
  readonly layout?: LayoutName;
}

/** Words of struct Parameters in gpu/parameters.wgsl. */
export const PARAMETER_WORDS = 24;

/** Most workgroups of one dimension, in every adapter. */
const MOST_GROUPS = 65535;

// The values of GPUBufferUsage and GPUMapMode, which Node has no globals for.
export const USAGE = {
  MAP_READ: 1,
  MAP_WRITE: 2,
  COPY_SRC: 4,
  COPY_DST: 8,
  UNIFORM: 64,
  STORAGE: 128,
  QUERY_RESOLVE: 512,
} as const;
const MAP_MODE_READ = 1;
const STAGE_COMPUTE = 4;

const USAGE_OF: Readonly<Record<BufferName, number>> = {
  values: USAGE.STORAGE | USAGE.COPY_DST,
  words: USAGE.STORAGE | USAGE.COPY_DST,
  scratch: USAGE.STORAGE | USAGE.COPY_DST | USAGE.COPY_SRC,
  result: USAGE.STORAGE | USAGE.COPY_SRC,
  report: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST,
  readback: USAGE.MAP_READ | USAGE.COPY_DST,
  parameters: USAGE.UNIFORM | USAGE.COPY_DST,
  sums: USAGE.STORAGE | USAGE.COPY_SRC,
};

/** What the adapter is, beside its features. */
export interface DeviceTraits {
  /** A GPU in software. */
  readonly isSoftware?: boolean;
  /** Threads of a subgroup, always; 0 or absent: kernels for subgroups are not used. */
  readonly lanes?: number;
}

export class GpuDevice {
  readonly device: GPUDevice;
  /** A GPU in software. */
  readonly isSoftware: boolean;
  readonly #layouts = new Map<LayoutName, { bind: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();
  readonly #modules = new Map<ModuleName, GPUShaderModule>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #buffers = new Map<BufferName, GPUBuffer>();
  #byteLength = 0;
  #peakByteLength = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #lost: string | null = null;
  #disposed = false;

  /** Most elements of a tensor that are worked on at a time. */
  readonly pieceElements: number;
  /** Threads that share an output of a product in running models: one where barriers are slow. */
  readonly team: 1 | 32;
  /** Threads of a subgroup, or 0 where kernels for subgroups are not used. */
  readonly lanes: number;

  constructor(device: GPUDevice, pieceElements: number, traits: DeviceTraits = {}) {
    this.device = device;
    this.pieceElements = pieceElements;
    this.isSoftware = traits.isSoftware ?? false;
    this.team = traits.isSoftware ? 1 : 32;
    this.lanes = traits.lanes ?? 0;
    device.lost.then(({ reason, message }) => {
      this.#lost = `${reason}: ${message}`;
    });
    for (const [name, kinds] of Object.entries(LAYOUTS)) {
      const bind = device.createBindGroupLayout({
        entries: kinds.map((type, binding) => ({ binding, visibility: STAGE_COMPUTE, buffer: { type } })),
      });
      const pipeline = device.createPipelineLayout({ bindGroupLayouts: [bind] });
      this.#layouts.set(name as LayoutName, { bind, pipeline });
    }
  }

  /** Most bytes of one buffer that a kernel sees. */
  get mostBytes(): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    return Math.min(maxBufferSize, maxStorageBufferBindingSize);
  }

  /** Throws `backend/disposed` or `backend/lost`. */
  check(): void {
    if (this.#disposed) throw new IsqError("backend/disposed", "the webgpu backend was disposed");
    if (this.#lost === null) return;
    throw new IsqError("backend/lost", `the GPU device was lost (${this.#lost})`, { reason: this.#lost });
  }

  /**
   * Runs `work` once earlier work has ended, for buffers are shared. What goes wrong on the device comes out as
   * `backend/memory`, `backend/lost` or `backend/device`.
   */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.inTurn(() => this.guarded(work));
  }

  /**
   * Runs `work` once earlier work has ended, without asking for the device's errors, which takes some 100 µs: for what has
   * run before in the same way.
   */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(async () => {
      try {
        this.check();
        return await work();
      } catch (error) {
        await new Promise((resolve) => setTimeout(resolve)); // the news of a lost device come after what fails by it
        this.check();
        throw error;
      }
    });
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Runs `work`, which has its turn, and asks for the device's errors. */
  async guarded<T>(work: () => Promise<T>): Promise<T> {
    this.check();
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    let outcome: { value: T } | { error: unknown };
    try {
      outcome = { value: await work() };
    } catch (error) {
      outcome = { error };
    }
    const memory = await this.device.popErrorScope().catch(() => null);
    const validation = await this.device.popErrorScope().catch(() => null);
    if (memory) {
      this.release();
      throw new IsqError("backend/memory", `the GPU has no room: ${memory.message}`, { field: "memory" });
    }
    if (validation) throw new IsqError("backend/device", `the GPU refused: ${validation.message}`);
    if ("value" in outcome) return outcome.value;
    this.check(); // a lost device explains any other error
    throw outcome.error;
  }

  /** Throws `backend/memory` for more bytes than a buffer may have. */
  checkSize(field: string, byteLength: number, limit = this.mostBytes): void {
    if (byteLength <= limit) return;
    const message = `a buffer of ${byteLength} bytes (${field}) is more than the ${limit} of this GPU`;
    throw new IsqError("backend/memory", message, { field, value: byteLength, limit });
  }

  /** A buffer of at least `byteLength` bytes, with whatever was in it; valid until the next call with this name. */
  buffer(name: BufferName, byteLength: number): GPUBuffer {
    const kept = this.#buffers.get(name);
    if (kept && kept.size >= byteLength) return kept;
    if (kept) this.free(kept);
    this.#buffers.delete(name);
    const limit = name === "readback" ? this.device.limits.maxBufferSize : this.mostBytes;
    const made = this.allocate(name, byteLength, USAGE_OF[name], limit);
    this.#buffers.set(name, made);
    return made;
  }

  /** A buffer of its own, of at least `byteLength` bytes; {@link free} ends it. Throws `backend/memory`. */
  allocate(label: string, byteLength: number, usage: number, limit = this.mostBytes): GPUBuffer {
    this.checkSize(label, byteLength, limit);
    const size = Math.max(256, Math.ceil(byteLength / 16) * 16);
    const buffer = this.device.createBuffer({ label, size, usage });
    this.#byteLength += size;
    this.#peakByteLength = Math.max(this.#peakByteLength, this.#byteLength);
    return buffer;
  }

  free(buffer: GPUBuffer): void {
    this.#byteLength -= buffer.size;
    buffer.destroy();
  }

  /** Bytes of all buffers now, and the most there were. */
  get memory(): { readonly byteLength: number; readonly peakByteLength: number } {
    return { byteLength: this.#byteLength, peakByteLength: this.#peakByteLength };
  }

  pipeline({
    type,
    entryPoint,
    constants = {},
    layout = "codec",
  }: KernelChoice): Promise<GPUComputePipeline> {
    const key = `${type} ${entryPoint} ${JSON.stringify(constants)}`;
    const known = this.#pipelines.get(key);
    if (known) return known;
    const module =
      this.#modules.get(type) ?? this.device.createShaderModule({ code: moduleText(type, this.lanes) });
    this.#modules.set(type, module);
    const made = this.device.createComputePipelineAsync({
      layout: this.#layouts.get(layout)!.pipeline,
      compute: { module, entryPoint, constants },
    });
    made.catch(() => this.#pipelines.delete(key));
    this.#pipelines.set(key, made);
    return made;
  }

  /** A bind group of these buffers, in the order of the layout. */
  bind(layout: LayoutName, buffers: readonly (GPUBuffer | GPUBufferBinding)[]): GPUBindGroup {
    return this.device.createBindGroup({
      layout: this.#layouts.get(layout)!.bind,
      entries: buffers.map((one, binding) => ({
        binding,
        resource: "buffer" in one ? one : { buffer: one },
      })),
    });
  }

  /** The bind group of the codec's kept buffers; other buffers may take their places. */
  bindKept(others: Partial<Record<BufferName, GPUBuffer>> = {}): GPUBindGroup {
    const names: BufferName[] = ["parameters", "values", "words", "scratch", "result", "report"];
    return this.bind(
      "codec",
      names.map((name) => others[name] ?? this.buffer(name, 64)),
    );
  }

  /** Submits, and hands `use` copies of ranges of buffers that it may look at until it returns. */
  async read<T>(
    encoder: GPUCommandEncoder,
    ranges: readonly { buffer: GPUBuffer; byteOffset: number; byteLength: number }[],
    use: (parts: ArrayBuffer[]) => T,
  ): Promise<T> {
    const aligned = ranges.map(({ byteLength }) => Math.ceil(byteLength / 8) * 8);
    const total = aligned.reduce((sum, bytes) => sum + bytes, 0);
    const readback = this.buffer("readback", total);
    let at = 0;
    for (const [i, { buffer, byteOffset }] of ranges.entries()) {
      encoder.copyBufferToBuffer(buffer, byteOffset, readback, at, aligned[i]);
      at += aligned[i];
    }
    this.device.queue.submit([encoder.finish()]);
    await readback.mapAsync(MAP_MODE_READ, 0, total);
    try {
      at = 0;
      const parts = aligned.map((bytes) => {
        at += bytes;
        return readback.getMappedRange(at - bytes, bytes);
      });
      return use(parts);
    } finally {
      readback.unmap();
    }
  }

  /** Seconds of a pass, by timestamps around it. */
  async timePass(record: (pass: GPUComputePassEncoder) => void): Promise<number> {
    const querySet = this.device.createQuerySet({ type: "timestamp", count: 2 });
    const resolved = this.allocate("times", 16, USAGE.QUERY_RESOLVE | USAGE.COPY_SRC);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    });
    record(pass);
    pass.end();
    encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
    try {
      return await this.read(encoder, [{ buffer: resolved, byteOffset: 0, byteLength: 16 }], ([bytes]) => {
        const [begin, end] = new BigUint64Array(bytes);
        return Number(end - begin) / 1e9;
      });
    } finally {
      this.free(resolved);
      querySet.destroy();
    }
  }

  /** Frees the kept buffers; the device stays. */
  release(): void {
    for (const buffer of this.#buffers.values()) this.free(buffer);
    this.#buffers.clear();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.release();
    this.device.destroy();
  }
}

/** Records a dispatch of `threads` threads, over two dimensions where one is too short; `layers` of them. */
export function dispatch(
  pass: GPUComputePassEncoder,
  threads: number,
  groupThreads: number,
  layers = 1,
): void {
  const groups = Math.ceil(threads / groupThreads);
  if (groups === 0) return;
  const x = Math.min(groups, MOST_GROUPS);
  pass.dispatchWorkgroups(x, Math.ceil(groups / x), layers);
}
