import { expect, test } from "vitest";
import { KINDS, killLoop } from "./kill-loop.js";

test.each(Object.entries(KINDS))("killed 3 times, %s: the same bytes", async (_, kind) => {
  expect(await killLoop(kind, 3)).toMatchObject({ kills: 3 });
});
