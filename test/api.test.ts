/** The API reference, as the comments in the code make it: everything that the package exports is in it, and explained. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "isq-api-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const entries = Object.entries<{ types?: string }>(exports).filter(([, target]) => target.types);

test("every export has a comment, and every link leads somewhere", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["scripts/api.mjs", folder], {
    cwd: root,
    encoding: "utf8",
  });
  // Says which export of which file is meant.
  expect(stdout + stderr).toBe("");
  expect(status).toBe(0);
  const pages = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".md"),
  );
  for (const page of pages) {
    const links = readFileSync(join(folder, page), "utf8").matchAll(/\]\((?!https?:)([^)#]+\.md)/g);
    for (const [, link] of links) expect(existsSync(join(folder, dirname(page), link)), link).toBe(true);
  }
});

test.each(entries)("%s: a page with every name that can be imported", async (name, { types }) => {
  const page = readFileSync(join(folder, `${name.replace(".", "isq")}.md`), "utf8");
  const module = await import(join(root, types!.replace(".d.ts", ".js")));
  const headings = [...page.matchAll(/^### (.*?)(?:\(\))?$/gm)].map((match) => match[1].replaceAll("\\", ""));
  expect(headings).toEqual(expect.arrayContaining(Object.keys(module)));
});
