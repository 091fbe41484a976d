import { describe } from "vitest";
import { asCodec, haveGpu, openTwice } from "../gpu.js";
import { codecSuite } from "../suites/codec.js";

describe.skipIf(!haveGpu())("WebGPU", () => {
  codecSuite("webgpu", async () => asCodec(await openTwice()));
});
