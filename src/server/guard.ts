/** Who may ask: API key, Host, and pages of other origins. */

import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import type { MiddlewareHandler } from "hono";
import { ApiError } from "./errors.js";

/** Who may ask the server. */
export interface GuardOptions {
  /** Asked of every request but those for the page and for `/health`. */
  readonly apiKey?: string;
  /** Names that a Host header may have besides `localhost`; addresses are always fine. */
  readonly allowedHosts?: readonly string[];
  /** Origins whose pages may ask; `*` for all. None when absent. */
  readonly corsOrigins?: readonly string[];
}

/** What anybody may see: whether the server lives, and the page, which asks for the key itself. */
const PUBLIC = /^\/(health|favicon\.ico|(page\/[\w.-]+)?)$/;

const ALLOWED_HEADERS = "authorization, content-type";

const HEADER_NAMES = /^[\w-]+(\s*,\s*[\w-]+)*$/;

/** Refuses with 401 and 403, answers preflights, and adds what browsers need where an origin is allowed. */
export function guard({ apiKey, allowedHosts = [], corsOrigins = [] }: GuardOptions): MiddlewareHandler {
  const isKey = apiKey === undefined ? () => true : keyCheck(apiKey);
  const hosts = new Set(["localhost", ...allowedHosts.map((host) => host.toLowerCase())]);
  const allows = (origin: string) => corsOrigins.includes("*") || corsOrigins.includes(origin);
  return async (context, next) => {
    const { req } = context;
    const host = req.header("host") ?? "";
    checkHost(host, hosts);
    const origin = req.header("origin");
    const foreign = origin !== undefined && !isSameOrigin(origin, host);
    if (foreign && !allows(origin)) {
      throw new ApiError(403, "origin_not_allowed", `pages of ${origin} may not use this server`);
    }
    if (foreign && req.method === "OPTIONS") {
      return preflight(origin, req.header("access-control-request-headers"));
    }
    if (!PUBLIC.test(req.path) && !isKey(req.header("authorization") ?? "")) {
      const headers = { "www-authenticate": "Bearer" };
      throw new ApiError(401, "invalid_api_key", "this server needs an API key, as a bearer token", {
        headers,
      });
    }
    await next();
    if (!foreign) return;
    context.res.headers.set("access-control-allow-origin", origin);
    context.res.headers.append("vary", "origin");
  };
}

/**
 * A name that is not this server's may be one of an attacker that resolves to this machine (DNS rebinding): pages of that
 * name could read the answers. Addresses cannot be rebound.
 */
function checkHost(host: string, names: ReadonlySet<string>): void {
  const name = host.replace(/:\d*$/, "").toLowerCase();
  const address = name.replace(/^\[(.*)\]$/, "$1");
  if (isIP(address) !== 0 || names.has(name)) return;
  const message = `this server does not answer to the name ${JSON.stringify(name)}; --allow-host lets it`;
  throw new ApiError(403, "host_not_allowed", message, { param: "host" });
}

function isSameOrigin(origin: string, host: string): boolean {
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}

/** An allowed origin may send any header: official clients have their own, and none but the two means anything here. */
function preflight(origin: string, wanted = ALLOWED_HEADERS): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-origin": origin,
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": HEADER_NAMES.test(wanted) ? wanted : ALLOWED_HEADERS,
      "access-control-max-age": "600",
      vary: "origin, access-control-request-headers",
    },
  });
}

/** Digests are compared, so that neither the time nor the length tells anything of the key. */
function keyCheck(apiKey: string): (authorization: string) => boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const wanted = digest(`Bearer ${apiKey}`);
  return (authorization) => timingSafeEqual(digest(authorization), wanted);
}
