/** The page at `/`: files beside this module, as they are. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Hono } from "hono";
import type { AppEnv, ServerState } from "../state.js";

const FILES = [
  ["/", "index.html", "text/html; charset=utf-8"],
  ["/page/page.css", "page.css", "text/css; charset=utf-8"],
  ["/page/page.js", "page.js", "text/javascript; charset=utf-8"],
] as const;

/** Nothing but the page's own files and this server's answers. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function pageRoutes(_state: ServerState): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  for (const [path, file, type] of FILES) {
    const body = readFileSync(new URL(`../page/${file}`, import.meta.url), "utf8");
    const etag = `"${createHash("sha256").update(body).digest("hex").slice(0, 16)}"`;
    const headers = {
      "content-type": type,
      etag,
      "cache-control": "no-cache",
      "content-security-policy": POLICY,
    };
    app.get(path, (context) => {
      if (context.req.header("if-none-match") === etag) return new Response(null, { status: 304, headers });
      return context.body(body, 200, headers);
    });
  }
  return app;
}
