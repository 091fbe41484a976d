/** Dispatches of one step that are prepared once and encoded whenever a step of the same size runs. */

import { IsqError } from "../errors.js";
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
  /** Adds all dispatches to a pass. */
  encode(pass: GPUComputePassEncoder): void;
  readonly dispatches: number;
  dispose(): void;
}

/** Dynamic uniform offsets have this grain in every adapter. */
const UNIFORM_GRAIN = 256;
/** Most workgroups of one dimension, in every adapter. */
const MOST_GROUPS = 65535;

/** Makes pipelines, one buffer with all uniforms, and bind groups. */
export async function record(gpu: GpuDevice, works: readonly Work[]): Promise<Recording> {
  const pipelines = await Promise.all(works.map((work) => gpu.pipeline(work)));
  const { uniforms, data } = makeUniforms(gpu, works);
  gpu.device.queue.writeBuffer(uniforms, 0, data);
  const bound = works.map(({ layout, words, resources, groups }, i) => {
    const uniform = { buffer: uniforms, offset: i * UNIFORM_GRAIN, size: words.byteLength };
    const { x, y = 1, z = 1 } = checkGroups(groups);
    return { pipeline: pipelines[i], group: gpu.bind(layout, [uniform, ...resources]), x, y, z };
  });
  return {
    dispatches: bound.length,
    encode(pass) {
      let before: GPUComputePipeline | undefined;
      for (const { pipeline, group, x, y, z } of bound) {
        if (pipeline !== before) pass.setPipeline(pipeline);
        before = pipeline;
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y, z);
      }
    },
    dispose: () => gpu.free(uniforms),
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
