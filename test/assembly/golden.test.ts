/** The golden set on the SIMD kernels. */

import { codecSuite } from "../suites/codec.js";
import { kernelCodec, loadKernels } from "./kernels.js";

codecSuite("kernels", async () => kernelCodec(await loadKernels()));
