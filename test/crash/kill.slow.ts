import { expect, test } from "vitest";
import { killLoop } from "./kill-loop.js";

test.each(["gguf", "safetensors"])("killed 200 times, %s has the same bytes", async (extension) => {
  const { files, kills } = await killLoop(extension, 200);
  console.log(`${extension}: ${kills} kills, ${files} files, all the same`);
  expect(kills).toBe(200);
});
