/** The codecs by type. */

import { IsqError } from "../errors.js";
import type { BlockCodec, TensorCodec } from "./codec.js";
import { fp8 } from "./fp8.js";
import { hqq4 } from "./hqq4.js";
import { hqq8 } from "./hqq8.js";
import { q2_k } from "./q2_k.js";
import { q3_k } from "./q3_k.js";
import { q4_0 } from "./q4_0.js";
import { q4_1 } from "./q4_1.js";
import { q4_k } from "./q4_k.js";
import { q5_0 } from "./q5_0.js";
import { q5_1 } from "./q5_1.js";
import { q5_k } from "./q5_k.js";
import { q6_k } from "./q6_k.js";
import { q8_0 } from "./q8_0.js";
import { q8_1 } from "./q8_1.js";
import { q8_k } from "./q8_k.js";
import type { IsqType } from "./table.js";

const BLOCK_CODECS = new Map<IsqType, BlockCodec>(
  [q4_0, q4_1, q5_0, q5_1, q8_0, q8_1, q2_k, q3_k, q4_k, q5_k, q6_k, q8_k].map((codec) => [
    codec.type,
    codec,
  ]),
);

const TENSOR_CODECS = new Map<IsqType, TensorCodec>([hqq4, hqq8, fp8].map((codec) => [codec.type, codec]));

/** The codec of a block type. Throws `type/unsupported` for HQQ and FP8, whose unit is the tensor. */
export function blockCodec(type: IsqType): BlockCodec {
  const codec = BLOCK_CODECS.get(type);
  if (codec) return codec;
  throw new IsqError(
    "type/unsupported",
    `${type} has no blocks; the block types are ${[...BLOCK_CODECS.keys()].join(", ")}`,
    {
      field: "type",
      value: type,
      limit: [...BLOCK_CODECS.keys()],
    },
  );
}

/** The codec of HQQ4, HQQ8 or FP8. Throws `type/unsupported` for block types. */
export function tensorCodec(type: IsqType): TensorCodec {
  const codec = TENSOR_CODECS.get(type);
  if (codec) return codec;
  throw new IsqError("type/unsupported", `${type} is encoded row by row, not as a whole tensor`, {
    field: "type",
    value: type,
    limit: [...TENSOR_CODECS.keys()],
  });
}
