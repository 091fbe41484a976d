import { describe } from "vitest";
import { compareProducts, haveGpu, openTwice } from "../gpu.js";
import { backendSuite } from "../suites/backend.js";

describe.skipIf(!haveGpu())("WebGPU", () => {
  backendSuite("webgpu", () => openTwice(), { runs: 2, mostElements: 2 ** 17, compareProducts });
});
