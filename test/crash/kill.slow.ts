import { expect, test } from "vitest";
import { killLoop } from "./kill-loop.js";

test.each(["gguf", "safetensors", "uqff"])("killed 200 times, %s has the same bytes", async (extension) => {
  const { outputs, kills, midway } = await killLoop(extension, 200);
  console.log(
    `${extension}: ${kills} kills, ${midway} while it was writing; ${outputs} outputs, all the same`,
  );
  expect(kills).toBe(200);
});
