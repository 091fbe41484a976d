import { expect, test } from "vitest";
import { killLoop } from "./kill-loop.js";

test.each(["gguf", "safetensors", "uqff"])("killed 4 times, %s has the same bytes", async (extension) => {
  expect(await killLoop(extension, 4)).toMatchObject({ kills: 4 });
});
