// The system's Chromium without a window, and a server for its pages. Tests and scripts that need a browser come here.
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { chromium } from "playwright-core";
import { root } from "./bundle.mjs";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of the browser, or undefined; ISQ_CHROMIUM names another one. */
export const chromiumPath = process.env["ISQ_CHROMIUM"] ?? PLACES.find((path) => existsSync(path));

/** What to say where there is none. */
export const chromiumMissing =
  chromiumPath === undefined
    ? "no Chromium here: scripts/install-debian.sh installs it (apt-get install -y --no-install-recommends chromium)"
    : undefined;

/** Starts the browser; the caller closes it. WebGPU works through SwiftShader where there is no graphics card. */
export function openChromium() {
  return chromium.launch({
    executablePath: chromiumPath,
    args: [
      "--no-sandbox", // containers are often root without user namespaces
      "--enable-unsafe-webgpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/**
 * Drops files of this machine on the page's body, as from a file manager. They reach the page through a file field of its
 * own: passing megabytes as an argument takes seconds.
 */
export async function dropFiles(page, paths) {
  const input = await page.evaluateHandle(() => {
    const field = document.createElement("input");
    field.type = "file";
    field.multiple = true;
    return field;
  });
  await input.setInputFiles(paths);
  const dataTransfer = await input.evaluateHandle((field) => {
    const data = new DataTransfer();
    for (const file of field.files) data.items.add(file);
    return data;
  });
  await page.dispatchEvent("body", "drop", { dataTransfer });
}

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
};

/**
 * Serves the project's files under their paths, folders as lists of names in JSON, and `pages` (path to HTML) besides.
 * `isolated` sends the headers with which pages may share memory with their workers. `requests` has every URL and method
 * that was asked for.
 */
export async function serveProject({ pages = {}, isolated = true } = {}) {
  const requests = [];
  const headers = isolated
    ? { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" }
    : {};
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    requests.push({ method: request.method, path });
    try {
      const { body, type, encoding } = await contentOf(path, pages);
      response.writeHead(200, {
        ...headers,
        "content-type": type,
        ...(encoding && { "content-encoding": encoding }),
      });
      response.end(body);
    } catch {
      response.writeHead(404, headers).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, requests, close: () => new Promise((resolve) => server.close(resolve)) };
}

async function contentOf(path, pages) {
  if (Object.hasOwn(pages, path)) return { body: pages[path], type: TYPES[".html"] };
  if (path.split("/").includes("..")) throw new Error("outside of the project");
  const file = root + path.slice(1);
  if ((await stat(file)).isDirectory()) {
    return { body: JSON.stringify(await readdir(file)), type: TYPES[".json"] };
  }
  const type = TYPES[extname(path)] ?? "application/octet-stream";
  return { body: await readFile(file), type, ...(path.endsWith(".br") && { encoding: "br" }) };
}
