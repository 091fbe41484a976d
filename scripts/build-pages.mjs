// Builds the pages of pages/: those of docs/, one HTML file each, which work from a disk as well as from
// a server (the quantizer with worker threads only from one that isolates it); and the
// page of the server, whose parts are embedded in src/server/page-files.ts, so that it needs no path.
import { readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { bundlePage, root } from "./bundle.mjs";

const PAGES = ["viewer", "quantizer"];
/** Pages whose worker threads have their script beside them, where the page looks for it. */
const WITH_WORKER = ["quantizer"];

const read = (path) => readFileSync(`${root}pages/${path}`, "utf8");

/** The HTML of a page: its template with its style and its script in it. */
export async function buildPage(name) {
  const style = read("style.css").trim();
  const script = (await bundlePage(`pages/${name}/main.ts`)).trim();
  // A script ends at the first end tag, wherever it stands.
  if (/<\/script/i.test(script)) throw new Error(`the script of ${name} has an end tag in it`);
  return read(`${name}/page.html`)
    .replace("/* style */", () => style)
    .replace("/* script */", () => script);
}

export async function buildPages() {
  for (const name of PAGES) {
    await mkdir(`${root}docs/${name}`, { recursive: true });
    writeFileSync(`${root}docs/${name}/index.html`, await buildPage(name));
    if (!WITH_WORKER.includes(name)) continue;
    writeFileSync(`${root}docs/${name}/worker.js`, await bundlePage("src/web/worker.ts"));
  }
}

/** The module that holds the server's page. */
export async function serverPageModule() {
  const files = {
    html: read("server/page.html"),
    css: read("style.css") + read("server/page.css"),
    js: await bundlePage("pages/server/main.ts"),
  };
  const entries = Object.entries(files).map(([name, text]) => `  ${name}: ${JSON.stringify(text)},\n`);
  return `// Written by scripts/build-pages.mjs.\nexport const PAGE = {\n${entries.join("")}} as const;\n`;
}

export async function embedServerPage() {
  writeFileSync(`${root}src/server/page-files.ts`, await serverPageModule());
}
