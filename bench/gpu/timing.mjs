// Seconds of GPU work, by timestamps around a compute pass.

const READ = 1;
// An H100 that had been idle for ten seconds ran the first ten passes of a millisecond at a quarter of its speed.
const WARM_MILLISECONDS = 250;

/** Runs passes on a device and says how long the GPU took for each. */
export function createTimer(device) {
  const querySet = device.createQuerySet({ type: "timestamp", count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: 512 | 4 });
  const readback = device.createBuffer({ size: 16, usage: 1 | 8 });
  return {
    /** Records `record(pass)` and returns its seconds. */
    async time(record) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
      });
      record(pass);
      pass.end();
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, readback, 0, 16);
      device.queue.submit([encoder.finish()]);
      await readback.mapAsync(READ);
      const [from, to] = new BigUint64Array(readback.getMappedRange().slice(0));
      readback.unmap();
      return Number(to - from) / 1e9;
    },
    /** The least seconds of `rounds` passes, when the GPU has been busy long enough for its clocks to have risen. */
    async best(record, rounds) {
      const end = performance.now() + WARM_MILLISECONDS;
      do await this.time(record);
      while (performance.now() < end);
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < rounds; i++) least = Math.min(least, await this.time(record));
      return least;
    },
    destroy() {
      querySet.destroy();
      resolved.destroy();
      readback.destroy();
    },
  };
}

/** GB/s, read and written, of a kernel that copies `byteLength` bytes a vector of 16 bytes a thread. */
export async function measureCopy(device, timer, byteLength, rounds) {
  const code = `
    @group(0) @binding(0) var<storage, read> source: array<vec4u>;
    @group(0) @binding(1) var<storage, read_write> copied: array<vec4u>;
    @compute @workgroup_size(256)
    fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
      let i = id.x + id.y * groups.x * 256u;
      copied[i] = source[i];
    }`;
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }), entryPoint: "copy" },
  });
  const make = () => device.createBuffer({ size: byteLength, usage: 128 | 8 });
  const buffers = [make(), make()];
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const groups = byteLength / 16 / 256;
  const x = Math.min(groups, 32768);
  const seconds = await timer.best((pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, groups / x);
  }, rounds);
  for (const buffer of buffers) buffer.destroy();
  return (2 * byteLength) / seconds / 1e9;
}

/** Seconds that a dispatch takes which does next to nothing but waits for the one before. */
export async function measureGap(device, timer, rounds) {
  const code = `
    @group(0) @binding(0) var<storage, read_write> counts: array<u32>;
    @compute @workgroup_size(32)
    fn count(@builtin(local_invocation_index) thread: u32) { counts[thread] += 1u; }`;
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }), entryPoint: "count" },
  });
  const buffer = device.createBuffer({ size: 128, usage: 128 });
  const layout = pipeline.getBindGroupLayout(0);
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] });
  const run = (dispatches) => (pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < dispatches; i++) pass.dispatchWorkgroups(1);
  };
  const one = await timer.best(run(1), rounds);
  const many = await timer.best(run(101), rounds);
  buffer.destroy();
  return (many - one) / 100;
}
