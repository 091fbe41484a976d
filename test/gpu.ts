/**
 * A GPU without hardware for tests: SwiftShader of Debian's chromium package, through Dawn. Each call runs twice and is
 * first compared with itself.
 */

import { existsSync } from "node:fs";
import type { Backend, Tensor } from "../src/backends/backend.js";
import { isDense } from "../src/backends/reference-linear.js";
import type { WebgpuBackend, WebgpuOptions } from "../src/backends/webgpu.js";
import { webgpu } from "../src/backends/webgpu.js";
import { widen } from "../src/dense.js";
import { dequantize, type QuantizedTensor, quantize, TYPES } from "../src/quants/index.js";
import type { ProductComparison } from "./suites/backend.js";
import { compareFloats } from "./suites/compare.js";
import { compareTensors } from "./suites/compare-tensors.js";

const DRIVER = "/usr/lib/chromium/vk_swiftshader_icd.json";
const LOADERS = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib/aarch64-linux-gnu/libvulkan.so.1"];

/** Whether GPU tests can run here; says how to get what is missing, once. */
export function haveGpu(): boolean {
  // Another driver may be named from outside, a real one for example.
  if (process.env["VK_ICD_FILENAMES"] || process.env["VK_DRIVER_FILES"]) return true;
  if (existsSync(DRIVER) && LOADERS.some((path) => existsSync(path))) {
    process.env["VK_ICD_FILENAMES"] = DRIVER;
    return true;
  }
  console.warn("GPU tests are skipped: a software GPU is missing. As root: scripts/install-debian.sh");
  return false;
}

const differ = (what: string, how: string): never => {
  throw new Error(`${what}: a second run gave something else: ${how}`);
};

/** The backend, with everything done twice. */
export function runTwice(backend: WebgpuBackend): WebgpuBackend {
  return {
    ...backend,
    async quantize(type, values, options) {
      const first = await backend.quantize(type, values, options);
      const second = await backend.quantize(type, values, options);
      const difference = compareTensors(second, first);
      return difference === undefined ? first : differ(`quantize ${type}`, difference);
    },
    async dequantize(tensor: Tensor) {
      const first = await backend.dequantize(tensor);
      const difference = compareFloats(await backend.dequantize(tensor), first);
      return difference === undefined ? first : differ(`dequantize ${tensor.type}`, difference);
    },
    async matmul(weights, activations) {
      const first = await backend.matmul(weights, activations);
      const difference = compareFloats(await backend.matmul(weights, activations), first);
      return difference === undefined ? first : differ(`matmul ${weights.type}`, difference);
    },
  };
}

export async function openTwice(options: WebgpuOptions = {}): Promise<WebgpuBackend> {
  return runTwice(await webgpu(options));
}

/**
 * The tolerance of products on a GPU: 1e-6 · Σ|w·x| on the same quantized activations. What is said when one is further off.
 */
export const compareProducts: ProductComparison = (actual, expected, weights, activations) => {
  if (actual.length !== expected.length) return `${actual.length} products, not ${expected.length}`;
  const columns = weights.shape[weights.shape.length - 1];
  const partner = isDense(weights) ? null : TYPES[weights.type].dotPartner;
  const rows = activations.length / columns;
  const outputs = expected.length / rows;
  const w = isDense(weights) ? widen(weights) : dequantize(weights);
  const x =
    partner === null ? activations : dequantize(quantize(partner, activations, { shape: [rows, columns] }));
  for (let i = 0; i < expected.length; i++) {
    const [r, o] = [Math.floor(i / outputs), i % outputs];
    let size = 0;
    for (let k = 0; k < columns; k++) size += Math.abs(w[o * columns + k] * x[r * columns + k]);
    if (!(Math.abs(actual[i] - expected[i]) <= 1e-6 * size)) {
      return `product ${i}: expected ${expected[i]}, got ${actual[i]}, of terms that sum to ${size}`;
    }
  }
  return undefined;
};

/** What the codec suites need. */
export function asCodec(backend: Backend) {
  return {
    quantize: (...args: Parameters<Backend["quantize"]>) => backend.quantize(...args),
    dequantize: (tensor: QuantizedTensor) => backend.dequantize(tensor),
    dispose: () => backend.dispose(),
  };
}
