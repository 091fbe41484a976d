import { expect, test } from "vitest";
import { killLoop } from "./kill-loop.js";

test.each(["gguf", "safetensors"])("killed 6 times, %s has the same bytes", async (extension) => {
  expect(await killLoop(extension, 6)).toMatchObject({ kills: 6 });
});
