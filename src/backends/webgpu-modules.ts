/** Which pieces of gpu/ make the module of a type. A module is their text, one after the other. */

import { type IsqType, TYPES } from "../quants/table.js";
import { SHADERS } from "./webgpu-shaders.js";

export type Piece = keyof typeof SHADERS;

const BASE: readonly Piece[] = ["parameters", "strict", "checked", "encode"];
const FLOAT: readonly Piece[] = [...BASE, "team", "linear-float"];
const BLOCK: readonly Piece[] = [...BASE, "blocks", "assemble", "decode", "team", "linear"];
const BYTES: readonly Piece[] = [...BLOCK, "plain", "prepare"];
const SEARCH: readonly Piece[] = ["search", "search-symmetric"];
const AFFINE: readonly Piece[] = [...SEARCH, "search-affine"];
const SYMMETRIC32: readonly Piece[] = [...BLOCK, "plain", "symmetric32", ...SEARCH, "searched32"];
const AFFINE32: readonly Piece[] = [...BLOCK, "plain", "affine32", ...AFFINE, "searched32"];
const SUPER: readonly Piece[] = [...BLOCK, ...SEARCH, "superblock"];
const SUPER_AFFINE: readonly Piece[] = [...BLOCK, ...AFFINE, "search-positive", "affine-units", "superblock"];

/** Shared pieces; the type's own file comes last. */
const PIECES: Readonly<Record<IsqType, readonly Piece[]>> = {
  Q4_0: SYMMETRIC32,
  Q4_1: AFFINE32,
  Q5_0: SYMMETRIC32,
  Q5_1: AFFINE32,
  Q8_0: [...BYTES, "bytes32"],
  Q8_1: [...BYTES, "bytes32"],
  Q2K: SUPER_AFFINE,
  Q3K: SUPER,
  Q4K: [...SUPER_AFFINE, "k4"],
  Q5K: [...SUPER_AFFINE, "k4"],
  Q6K: SUPER,
  Q8K: BYTES,
  HQQ4: [...FLOAT, "hqq"],
  HQQ8: [...FLOAT, "hqq"],
  FP8: FLOAT,
};

const STEP: readonly Piece[] = ["subgroups", "lanes", "strict", "functions", "fused"];

/** Modules that are no type's. */
const OTHERS = {
  probe: [...BASE, "probe"],
  arrange: ["arrange"],
  norms: ["op", "norms"],
  elements: ["op", "functions", "elements"],
  attention: ["op", "functions", "attention"],
  route: ["op", "functions", "route"],
  choose: ["op", "choose"],
  attendStep: ["subgroups", "lanes", "op", "functions", "attention-step"],
  step1: STEP,
  step2: STEP,
  step4: STEP,
  F32: [...FLOAT, "f32"],
  F16: [...FLOAT, "f16"],
  BF16: [...FLOAT, "bf16"],
} as const satisfies Record<string, readonly Piece[]>;

export type ModuleName = IsqType | keyof typeof OTHERS;

/** The text of a shader module, for subgroups of `lanes` threads where it uses them. */
export function moduleText(name: ModuleName, lanes: number): string {
  const pieces: readonly Piece[] =
    name in OTHERS
      ? OTHERS[name as keyof typeof OTHERS]
      : [...PIECES[name as IsqType], TYPES[name as IsqType].stem as Piece];
  const rows = /^step(\d)$/.exec(name); // outputs of a subgroup
  const constants = [
    pieces.includes("lanes") ? `const LANES = ${lanes}u;` : "",
    rows ? `const ROWS = ${rows[1]}u;` : "",
  ];
  return [...pieces.map((piece) => SHADERS[piece]), ...constants].join("\n");
}
