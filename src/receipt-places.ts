/** Where the tensors of a plan are in the files that were made of it, for receipts. */

import type { Tensor } from "./backends/backend.js";
import { isDense } from "./dense.js";
import { sideVectors } from "./files/safetensors-quantized.js";
import type { GgufExport } from "./gguf-export.js";
import type { OpenedModel } from "./load.js";
import { ggufArchitectureOf, headsOf } from "./model/gguf/architectures.js";
import { ggufNamesOf } from "./model/gguf/names.js";
import type { Plan } from "./plan.js";
import { type IsqType, TYPES } from "./quants/table.js";
import type { RowOrder } from "./receipt.js";
import { sideValues } from "./safetensors-export.js";
import type { SaveFile } from "./save.js";
import type { UqffFile } from "./uqff-export.js";

export interface Place {
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Where a tensor of the plan is in the output. */
export interface OutputPlace extends Place {
  /** Which of several files; the first when absent. */
  readonly file?: number;
  readonly type: string;
  readonly rows: RowOrder | null;
  readonly sides?: readonly (Place & { readonly suffix: string })[];
}

/** The places of any file that a plan was laid out into. */
export function placesOf(
  opened: Pick<OpenedModel, "config">,
  plan: Plan,
  file: SaveFile,
): Map<string, OutputPlace> {
  return isGgufExport(file) ? ggufPlaces(opened, file) : safetensorsPlaces(plan, file);
}

const isGgufExport = (file: SaveFile): file is GgufExport => file.format === "gguf";

function safetensorsPlaces({ rows }: Plan, { targets }: SaveFile): Map<string, OutputPlace> {
  const places = new Map<string, OutputPlace>();
  for (const { tensor, type, shape } of rows) {
    const [own, ...rest] = targets.get(tensor) ?? [];
    if (!own) continue; // a head that shares its embedding's bytes
    const vectors = isDense(type) ? [] : sideVectors(type, shape);
    const sides = vectors.map(({ suffix }, i) => ({ suffix, ...rangeOf(rest[i]) }));
    places.set(tensor, { ...rangeOf(own), type, rows: null, ...(sides.length > 0 && { sides }) });
  }
  return places;
}

export const rangeOf = ({ byteOffset, byteLength }: Place): Place => ({ byteOffset, byteLength });

/**
 * The places of a GGUF export that hold an encoder's bytes as they are or with their rows moved. Tensors that were changed
 * otherwise (transposed, or dense ones with another offset) have no place here.
 */
export function ggufPlaces(
  { config }: Pick<OpenedModel, "config">,
  { targets, pieces }: Pick<GgufExport, "targets" | "pieces">,
): Map<string, OutputPlace> {
  const { tensors: rules } = ggufArchitectureOf(config);
  const types = new Map(pieces.flatMap(({ parts, type }) => parts.map((part) => [part, type])));
  const places = new Map<string, OutputPlace>();
  for (const [name, [target]] of targets) {
    const [match] = ggufNamesOf(rules, name);
    const rows = match && rowOrderOf(match.rule.change, config);
    if (rows !== undefined) places.set(name, { ...rangeOf(target), type: types.get(name) as string, rows });
  }
  return places;
}

/** The places of the shards of a GGUF set. */
export function ggufShardPlaces(
  opened: Pick<OpenedModel, "config">,
  shards: readonly { readonly file: GgufExport }[],
): Map<string, OutputPlace> {
  const places = new Map<string, OutputPlace>();
  for (const [index, { file }] of shards.entries()) {
    for (const [name, place] of ggufPlaces(opened, file)) places.set(name, { ...place, file: index });
  }
  return places;
}

function rowOrderOf(change: string, { fields }: OpenedModel["config"]): RowOrder | null | undefined {
  if (change === "none") return null;
  if (change === "rope-queries") return { order: "interleaved", heads: headsOf(fields).heads };
  if (change === "rope-keys") return { order: "interleaved", heads: headsOf(fields).kvHeads };
  return undefined;
}

/** Vectors beside a quantized matrix of a UQFF layer, in the order of their targets. */
const UQFF_SIDES = {
  block: [],
  group: [".scales", ".zeros"],
  tensor: [".dequant_w_scale", ".dequant_x_scale", ".quant_scale"],
} as const;

/** The places of a UQFF set: its shards and, last, the file of other tensors. */
export function uqffPlaces(plan: Plan, files: readonly UqffFile[]): Map<string, OutputPlace> {
  const rows = new Map(plan.rows.map((row) => [row.tensor, row]));
  const residual = files.length - 1;
  const places = new Map<string, OutputPlace>();
  for (const [tensor, place] of safetensorsPlaces(plan, files[residual].file)) {
    places.set(tensor, { ...place, file: residual });
  }
  for (const [file, { file: shard }] of files.slice(0, -1).entries()) {
    for (const [tensor, [own, ...rest]] of shard.targets) {
      const { type, role } = rows.get(tensor)!;
      const suffixes = isDense(type) ? [] : UQFF_SIDES[TYPES[type as IsqType].family];
      const sides = suffixes.map((suffix, i) => ({ suffix, ...rangeOf(rest[i]) }));
      // The bias of a quantized layer is stored as F32.
      const stored = role === "bias" && own.byteLength === 4 * rows.get(tensor)!.shape[0] ? "F32" : type;
      places.set(tensor, {
        ...rangeOf(own),
        file,
        type: stored,
        rows: null,
        ...(sides.length > 0 && { sides }),
      });
    }
  }
  return places;
}

/** What a side of a tensor holds, by its suffix. Throws `data/length` for a tensor that has no such one. */
export function sideOf(tensor: Tensor, suffix: string): Float32Array {
  const { quantizeScale, dequantizeScale } = "algorithm" in tensor ? tensor : {};
  const scale = suffix === ".quant_scale" ? quantizeScale : dequantizeScale;
  const isScale = (UQFF_SIDES.tensor as readonly string[]).includes(suffix);
  return isScale && scale !== undefined ? Float32Array.of(scale) : sideValues(tensor, suffix);
}
