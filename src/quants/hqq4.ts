/** HQQ4: 4-bit codes; byte [r, j] holds member r of group j (high nibble) and member r + 32 (low). */

import { hqqCodec } from "./hqq.js";

export const hqq4 = hqqCodec("HQQ4", 4);
