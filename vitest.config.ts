import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vitest/config";

const slow = process.env["ISQ_SLOW"] === "1";

/**
 * The runner turns every use of an import into a call of a getter, which makes arithmetic ten times slower than it is in Node.
 * What comes from the modules below, which import nothing, becomes a constant of the module that uses it.
 */
const constantImports: Plugin = {
  name: "constant-imports",
  enforce: "post",
  transform(code, id) {
    if (id.includes("/node_modules/")) return;
    const names: string[] = [];
    const changed = code.replace(
      /^import \{([^}]*)\} from ("[^"]*\/(?:numerics|math)\.(?:js|ts)");/gm,
      (_, list: string, from: string) => {
        const imported = list.split(",").flatMap((name) => name.trim() || []);
        const parts = imported.map((name) => {
          const [outer, inner = outer] = name.split(/ as /);
          names.push(`${inner} = imported_${inner}`);
          return `${outer} as imported_${inner}`;
        });
        return `import { ${parts.join(", ")} } from ${from}; const ${names.splice(0).join(", ")};`;
      },
    );
    return changed === code ? undefined : { code: changed, map: null };
  },
};

export default defineConfig({
  plugins: [constantImports],
  resolve: { alias: { "#platform": fileURLToPath(new URL("./src/node/platform.ts", import.meta.url)) } },
  test: {
    include: slow ? ["test/**/*.test.ts", "test/**/*.slow.ts"] : ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: slow ? 3_600_000 : 300_000,
    hookTimeout: 300_000,
  },
});
