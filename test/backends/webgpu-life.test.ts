/** What surrounds the arithmetic: adapters, the probe, errors, leaks, and the end of a process. */

import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type WebgpuBackend, webgpu } from "../../src/backends/webgpu.js";
import { openGpu } from "../../src/node/dawn.js";
import { quantize } from "../../src/quants/index.js";
import { haveGpu } from "../gpu.js";
import { compareTensors } from "../suites/compare-tensors.js";
import { gauss } from "../suites/encoders.js";

const values = gauss(4096, 3);
const options = { shape: [4, 1024] };

/** An adapter whose device is handed out, and may be changed, before the backend sees it. */
async function wrapAdapter(use: (device: GPUDevice) => void): Promise<GPUAdapter> {
  const adapter = (await (await openGpu()).requestAdapter())!;
  return {
    info: adapter.info,
    features: adapter.features,
    limits: adapter.limits,
    async requestDevice(descriptor?: GPUDeviceDescriptor) {
      const device = await adapter.requestDevice(descriptor);
      use(device);
      return device;
    },
  } as GPUAdapter;
}

/** An adapter that compiles other shaders than it is given. */
const withShaders = (change: (code: string) => string) =>
  wrapAdapter((device) => {
    const create = device.createShaderModule.bind(device);
    device.createShaderModule = ({ code }) => create({ code: change(code) });
  });

/** A backend whose next call meets an error in one of its two scopes: 0 is that for memory, 1 that for validation. */
async function failingOnce(scope: 0 | 1, message: string): Promise<WebgpuBackend> {
  let armed = false;
  let popped = 0;
  const adapter = await wrapAdapter((device) => {
    const pop = device.popErrorScope.bind(device);
    device.popErrorScope = async () => {
      const error = await pop();
      if (!armed || popped++ !== scope) return error;
      armed = false;
      return { message } as GPUError;
    };
  });
  const made = await webgpu({ adapter });
  armed = true;
  return made;
}

describe.skipIf(!haveGpu())("WebGPU", () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await webgpu();
  });
  afterAll(() => backend?.dispose());

  it("says which adapter it is and what its arithmetic is worth", () => {
    expect(backend.adapter.name).not.toBe("");
    expect(["exact", "repaired"]).toContain(backend.probe.exactness);
    expect(backend.probe.canaries).toBeGreaterThan(2000);
    expect(Object.keys(backend.probe.mismatches).filter((name) => name !== "subnormal")).toEqual([]);
  });

  it("counts repaired blocks: none of ordinary rows, those with subnormal squares of others", async () => {
    expect((await backend.quantize("Q6K", values, options)).repairedBlocks).toBeUndefined();
    const tiny = values.slice();
    for (let i = 512; i < 768; i++) tiny[i] = tiny[i] * 2 ** -70;
    const tensor = await backend.quantize("Q6K", tiny, options);
    expect(tensor.repairedBlocks).toBe(1);
    expect(compareTensors(tensor, quantize("Q6K", tiny, options))).toBeUndefined();
  });

  it("finds adapters by name and number, and lists them for others", async () => {
    const first = await webgpu({ adapter: 0 });
    await first.dispose();
    const named = await webgpu({ adapter: (await listed())[0].slice(3, 8) });
    await named.dispose();
    const missing = await webgpu({ adapter: "no such adapter" }).catch((error) => error);
    expect(missing).toMatchObject({ tag: "backend/unavailable", details: { value: "no such adapter" } });
    expect(missing.details.limit.length).toBeGreaterThan(0);
    await expect(webgpu({ adapter: 99 })).rejects.toMatchObject({ tag: "backend/unavailable" });
  });
  const listed = async (): Promise<string[]> =>
    (await webgpu({ adapter: "no such adapter" }).catch((error) => error)).details.limit;

  it("refuses to quantize on an adapter that the canaries find inexact, unless told otherwise", async () => {
    const wrong = (code: string) => code.replace("return trunc(v + half);", "return round(v);");
    const adapter = await withShaders(wrong);
    const tolerant = await webgpu({ adapter });
    expect(tolerant.probe).toMatchObject({
      exactness: "tolerant",
      mismatches: { "nearest, away": expect.any(Number) },
    });
    await expect(tolerant.quantize("Q8_0", values, options)).rejects.toMatchObject({
      tag: "backend/inexact",
      details: { mismatches: { "nearest, away": expect.any(Number) } },
    });
    await tolerant.dispose();
    const told = await webgpu({ adapter: await withShaders(wrong), inexact: true });
    expect((await told.quantize("Q8_0", values, options)).data).toHaveLength(4352);
    await told.dispose();
  });

  it("refuses an encoder whose kernels go wrong where the canaries do not reach", async () => {
    const adapter = await withShaders((code) => code.replace("scale = trial;", "scale = 1.001 * trial;"));
    const broken = await webgpu({ adapter });
    expect(broken.probe.exactness).toBe("repaired");
    await expect(broken.quantize("Q4K", values, options)).rejects.toMatchObject({
      tag: "backend/inexact",
      details: { type: "Q4K", algorithm: "ggml" },
    });
    const other = await broken.quantize("Q8_0", values, options);
    expect(compareTensors(other, quantize("Q8_0", values, options))).toBeUndefined();
    await broken.dispose();
  });

  it("works piece by piece with the same bytes, and stops between pieces when told to", async () => {
    const pieces = await webgpu({ pieceElements: 512 });
    for (const type of ["Q5K", "Q4_1", "FP8", "HQQ4"] as const) {
      const wanted = quantize(type, values, options);
      expect(compareTensors(await pieces.quantize(type, values, options), wanted)).toBeUndefined();
      expect(await pieces.dequantize(wanted)).toEqual(await backend.dequantize(wanted));
    }
    const bad = values.slice();
    bad[3000] = Number.NaN;
    await expect(pieces.quantize("Q8_0", bad, options)).rejects.toMatchObject({ details: { index: 3000 } });
    const signal = AbortSignal.abort();
    await expect(pieces.quantize("Q8_0", values, { ...options, signal })).rejects.toMatchObject({
      tag: "aborted",
    });
    await pieces.dispose();
    await expect(webgpu({ pieceElements: 100 })).rejects.toMatchObject({ tag: "option/invalid" });
  });

  it("a lost device is an error of its own, then and later", async () => {
    let device: GPUDevice | undefined;
    const lost = await webgpu({
      adapter: await wrapAdapter((made) => {
        device = made;
      }),
    });
    await lost.quantize("Q8_0", values, options);
    device!.destroy();
    for (let i = 0; i < 2; i++) {
      await expect(lost.quantize("Q8_0", values, options)).rejects.toMatchObject({ tag: "backend/lost" });
    }
    await lost.dispose();
    await expect(lost.quantize("Q8_0", values, options)).rejects.toMatchObject({ tag: "backend/disposed" });
  });

  it("memory that is not there is an error, and the backend works on", async () => {
    const rows = Math.ceil(2 ** 30 / 2 ** 16) + 1;
    const weights = { type: "F32", shape: [rows, 2 ** 14], data: new Uint8Array(rows * 2 ** 16) } as const;
    await expect(backend.matmul(weights, new Float32Array(2 ** 14))).rejects.toMatchObject({
      tag: "backend/memory",
      details: { field: "weight" },
    });
    const small = await failingOnce(0, "none left");
    await expect(small.quantize("Q8_0", values, options)).rejects.toMatchObject({ tag: "backend/memory" });
    const again = await small.quantize("Q8_0", values, options);
    expect(compareTensors(again, quantize("Q8_0", values, options))).toBeUndefined();
    await small.dispose();
  });

  it("what the driver refuses is an error, and the backend works on", async () => {
    const odd = await failingOnce(1, "not in this order");
    await expect(odd.quantize("Q8_0", values, options)).rejects.toMatchObject({
      tag: "backend/device",
      message: expect.stringContaining("not in this order"),
    });
    const again = await odd.quantize("Q8_0", values, options);
    expect(compareTensors(again, quantize("Q8_0", values, options))).toBeUndefined();
    await odd.dispose();
  });

  it("nothing is left of a thousand calls", async () => {
    let open = 0;
    const adapter = await wrapAdapter((device) => {
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        const destroy = buffer.destroy.bind(buffer);
        open++;
        buffer.destroy = () => {
          open--;
          return destroy();
        };
        return buffer;
      };
    });
    const busy = await webgpu({ adapter });
    const tensor = await busy.quantize("Q8_0", values.subarray(0, 256), { shape: [8, 32] });
    const work = async () => {
      await busy.quantize("Q8_0", values.subarray(0, 256), { shape: [8, 32] });
      await busy.dequantize(tensor);
      await busy.matmul(tensor, values.subarray(0, 32));
      const broken = Float32Array.of(Number.NaN, ...values.subarray(1, 32));
      await expect(busy.quantize("Q8_0", broken, { shape: [32] })).rejects.toThrow();
    };
    await work();
    const before = open;
    for (let i = 0; i < 250; i++) await work();
    expect(open).toBe(before);
    await busy.dispose();
    expect(open).toBe(0);
  });

  it.each([
    ["at its end, without disposal", "", 0],
    ["after disposal", "await g.dispose();", 0],
    [
      "by process.exit in the middle of work",
      "g.quantize('Q8_0', v, { shape: [4096] }); process.exit(3);",
      3,
    ],
    [
      "by an exception in the middle of work",
      "g.quantize('Q8_0', v, { shape: [4096] }); throw new Error('on purpose');",
      1,
    ],
  ])("a process ends %s", (_name, end, status) => {
    const code = `
      import { webgpu } from "isq/webgpu";
      const g = await webgpu();
      const v = new Float32Array(4096).fill(0.5);
      await g.quantize("Q8_0", v, { shape: [4096] });
      ${end}`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
    expect({ status: child.status, signal: child.signal }).toEqual({ status, signal: null });
  });
});
