import { expect, test } from "vitest";
import { KINDS, killLoop } from "./kill-loop.js";

test.each(Object.entries(KINDS))("killed 200 times, %s: the same bytes", async (name, kind) => {
  const { outputs, kills, midway } = await killLoop(kind, 200);
  console.log(`${name}: ${kills} kills, ${midway} while it was writing; ${outputs} outputs, all the same`);
  expect(kills).toBe(200);
});
