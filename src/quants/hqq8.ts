/** HQQ8: 8-bit codes; byte [r, j] is member r of group j. */

import { hqqCodec } from "./hqq.js";

export const hqq8 = hqqCodec("HQQ8", 8);
