// Writes docs/api/ from the comments of the code, a page for each entry point of the package. Fails when an export has no
// comment, or a comment links to what is not there. An argument names another folder.
import { readFileSync } from "node:fs";
import { Application } from "typedoc";
import { root } from "./bundle.mjs";

const { exports } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

/** Import names of the entry points by the sources they are built of. */
const ENTRIES = new Map(
  Object.entries(exports)
    .filter(([, target]) => target.types)
    .map(([name, { types }]) => [
      types.replace("./dist/", "src/").replace(".d.ts", ".ts"),
      name.replace(".", "isq"),
    ]),
);

/** As typedoc calls a source. */
const moduleName = (file) => file.replace(/^src\/(.*?)(\/index)?\.ts$/, "$1");

/** Writes the pages, and returns how many errors and warnings there were. */
async function writeApi(out) {
  const app = await Application.bootstrapWithPlugins({
    entryPoints: [...ENTRIES.keys()].map((file) => root + file),
    tsconfig: `${root}tsconfig.json`,
    plugin: ["typedoc-plugin-markdown"],
    out,
    router: "module",
    readme: "none",
    name: "isq",
    hideBreadcrumbs: true,
    disableSources: true,
    excludePrivate: true,
    excludeExternals: true,
    requiredToBeDocumented: ["Class", "Interface", "TypeAlias", "Function", "Variable", "Method", "Accessor"],
    validation: { notDocumented: true, invalidLink: true, notExported: false },
    logLevel: "Warn",
    skipErrorChecking: true, // the build does that
  });
  const project = await app.convert();
  if (!project) return app.logger.errorCount;
  for (const [file, name] of ENTRIES) project.getChildByName([moduleName(file)]).name = name;
  app.validate(project);
  await app.generateOutputs(project);
  return app.logger.errorCount + app.logger.warningCount;
}

const faults = await writeApi(process.argv[2] ?? `${root}docs/api`);
if (faults > 0) process.exit(1);
