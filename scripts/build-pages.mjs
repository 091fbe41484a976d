// Builds the pages of pages/ into docs/: one HTML file each, which works from a disk as well as from a server.
import { readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { bundlePage, root } from "./bundle.mjs";

const PAGES = ["viewer"];

/** The HTML of a page: its template with its style and its script in it. */
export async function buildPage(name) {
  const template = readFileSync(`${root}pages/${name}/page.html`, "utf8");
  const style = readFileSync(`${root}pages/style.css`, "utf8").trim();
  const script = (await bundlePage(`pages/${name}/main.ts`)).trim();
  // A script ends at the first end tag, wherever it stands.
  if (/<\/script/i.test(script)) throw new Error(`the script of ${name} has an end tag in it`);
  return template.replace("/* style */", () => style).replace("/* script */", () => script);
}

export async function buildPages() {
  for (const name of PAGES) {
    await mkdir(`${root}docs/${name}`, { recursive: true });
    writeFileSync(`${root}docs/${name}/index.html`, await buildPage(name));
  }
}
