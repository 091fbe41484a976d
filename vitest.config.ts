import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const slow = process.env["ISQ_SLOW"] === "1";

export default defineConfig({
  resolve: { alias: { "#platform": fileURLToPath(new URL("./src/node/platform.ts", import.meta.url)) } },
  test: {
    include: slow ? ["test/**/*.test.ts", "test/**/*.slow.ts"] : ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: slow ? 3_600_000 : 300_000,
    hookTimeout: 300_000,
  },
});
