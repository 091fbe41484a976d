/** SHA-256 of the runtime. */

import { createHash } from "node:crypto";
import type { Hasher } from "../hash.js";

export function openHasher(): Hasher {
  const hash = createHash("sha256");
  return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
}
