/** Dispatches of one step that are prepared once and encoded whenever a step of the same size runs. */

import { IsqError } from "../errors.js";
import type { StepResult } from "./webgpu-ahead.js";
import { type GpuDevice, type KernelChoice, type LayoutName, USAGE } from "./webgpu-device.js";

export type Resource = GPUBuffer | GPUBufferBinding;

export interface Workgroups {
  readonly x: number;
  readonly y?: number;
  readonly z?: number;
}

/** A kernel, what it is told, and what it sees after the uniform. */
export interface Work extends KernelChoice {
  readonly layout: LayoutName;
  readonly words: Uint32Array;
  readonly resources: readonly Resource[];
  readonly groups: Workgroups;
}

export interface Recording {
  /** Adds dispatches to a pass: of all work, or of the work that `only` picks. */
  encode(pass: GPUComputePassEncoder, only?: (work: Work) => boolean): void;
  /**
   * Submits everything and reads the result. The next submission is made while the GPU works on this one. Several may be under
   * way; they run one after the other.
   */
  run(): Promise<StepResult>;
  readonly dispatches: number;
  dispose(): void;
}

/** Where results are, in words. */
export interface Result {
  readonly buffer: GPUBuffer;
  readonly at: number;
  readonly count: number;
  /** Where the step leaves a token in the same buffer, and the buffer whose first word it becomes: that of the next step. */
  readonly choice?: { readonly at: number; readonly next: GPUBuffer };
}

const MAP_MODE_READ = 1;

/** Dynamic uniform offsets have this grain in every adapter. */
const UNIFORM_GRAIN = 256;
/** Most workgroups of one dimension, in every adapter. */
const MOST_GROUPS = 65535;

/** Makes pipelines, one buffer with all uniforms, and bind groups. */
export async function record(gpu: GpuDevice, works: readonly Work[], result: Result): Promise<Recording> {
  const pipelines = await Promise.all(works.map((work) => gpu.pipeline(work)));
  const { uniforms, data } = makeUniforms(gpu, works);
  gpu.device.queue.writeBuffer(uniforms, 0, data);
  const bound = works.map(({ layout, words, resources, groups }, i) => {
    const uniform = { buffer: uniforms, offset: i * UNIFORM_GRAIN, size: words.byteLength };
    const { x, y = 1, z = 1 } = checkGroups(groups);
    return {
      work: works[i],
      pipeline: pipelines[i],
      group: gpu.bind(layout, [uniform, ...resources]),
      x,
      y,
      z,
    };
  });
  const encode: Recording["encode"] = (pass, only) => {
    let before: GPUComputePipeline | undefined;
    for (const { work, pipeline, group, x, y, z } of bound) {
      if (only && !only(work)) continue;
      if (pipeline !== before) pass.setPipeline(pipeline);
      before = pipeline;
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(x, y, z);
    }
  };
  const reader = createReader(gpu, result, encode);
  return {
    dispatches: bound.length,
    encode,
    run: reader.run,
    dispose() {
      gpu.free(uniforms);
      reader.dispose();
    },
  };
}

/** Submissions of a pass, with a result that is copied to where it can be read. */
function createReader(
  gpu: GpuDevice,
  { buffer, at, count, choice }: Result,
  encode: (pass: GPUComputePassEncoder) => void,
): Pick<Recording, "run" | "dispose"> {
  const { device } = gpu;
  const words = count + (choice ? 1 : 0);
  const byteLength = Math.max(4, 4 * words);
  const usage = USAGE.MAP_READ | USAGE.COPY_DST;
  const all: GPUBuffer[] = [];
  const free: GPUBuffer[] = [];
  const makeReadback = () => {
    const made = gpu.allocate("readback", byteLength, usage, device.limits.maxBufferSize);
    all.push(made);
    return made;
  };
  const prepare = () => {
    const readback = free.pop() ?? makeReadback();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encode(pass);
    pass.end();
    if (count > 0) encoder.copyBufferToBuffer(buffer, 4 * at, readback, 0, 4 * count);
    if (choice) {
      encoder.copyBufferToBuffer(buffer, 4 * choice.at, readback, 4 * count, 4);
      encoder.copyBufferToBuffer(buffer, 4 * choice.at, choice.next, 0, 4);
    }
    return { commands: encoder.finish(), readback };
  };
  let next: ReturnType<typeof prepare> | null = null;
  return {
    async run() {
      const { commands, readback } = next ?? prepare();
      device.queue.submit([commands]);
      const mapped = readback.mapAsync(MAP_MODE_READ, 0, byteLength);
      next = prepare();
      await mapped;
      try {
        const bytes = readback.getMappedRange(0, byteLength);
        const chosen = choice ? new Uint32Array(bytes, 4 * count, 1)[0] : null;
        return { logits: new Float32Array(bytes, 0, count).slice(), choice: chosen };
      } finally {
        readback.unmap();
        free.push(readback);
      }
    },
    dispose() {
      for (const readback of all) gpu.free(readback);
    },
  };
}

function makeUniforms(gpu: GpuDevice, works: readonly Work[]): { uniforms: GPUBuffer; data: Uint32Array } {
  const data = new Uint32Array((works.length * UNIFORM_GRAIN) / 4);
  for (const [i, { words }] of works.entries()) data.set(words, (i * UNIFORM_GRAIN) / 4);
  const usage = USAGE.UNIFORM | USAGE.COPY_DST;
  const limit = gpu.device.limits.maxBufferSize;
  return { uniforms: gpu.allocate("uniforms", data.byteLength, usage, limit), data };
}

/** One dimension of workgroups, or two where it is too long for one. */
export function groupsOf(units: number, each = 1): Workgroups {
  const groups = Math.ceil(units / each);
  const x = Math.min(groups, MOST_GROUPS);
  return { x, y: Math.ceil(groups / Math.max(1, x)) };
}

function checkGroups(groups: Workgroups): Workgroups {
  const most = Math.max(groups.x, groups.y ?? 1, groups.z ?? 1);
  if (most <= MOST_GROUPS) return groups;
  const message = `a step needs ${most} workgroups in one dimension, more than ${MOST_GROUPS}; run fewer rows at a time`;
  throw new IsqError("backend/memory", message, { field: "rows", value: most, limit: MOST_GROUPS });
}
