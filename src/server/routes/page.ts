/** The page at `/`: what pages/server is built into, which asks the other routes as any client does. */

import { createHash } from "node:crypto";
import { Hono } from "hono";
import { PAGE } from "../page-files.js";
import type { AppEnv } from "../state.js";

const FILES = [
  ["/", PAGE.html, "text/html; charset=utf-8"],
  ["/page/page.css", PAGE.css, "text/css; charset=utf-8"],
  ["/page/page.js", PAGE.js, "text/javascript; charset=utf-8"],
] as const;

/** Nothing but the page's own files and this server's answers, and nothing that would make markup of text. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

export function pageRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  for (const [path, body, type] of FILES) {
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
