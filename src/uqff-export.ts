/**
 * What the files of a UQFF model consist of: shards with the layers that quantization may touch, a file of all other
 * tensors, and the report. Pure; files/uqff-layer.ts names the sources of the format.
 */

import type { DenseTensor, Tensor } from "./backends/backend.js";
import { isDense, narrow, widen } from "./dense.js";
import { IsqError } from "./errors.js";
import { ggmlTypeNamed } from "./files/ggml-types.js";
import { quote } from "./files/json.js";
import { layoutSafetensors, type SafetensorsSpec } from "./files/safetensors-write.js";
import { storedName, UQFF_VERSION } from "./files/uqff.js";
import { UQFF_DTYPES, UQFF_FORMATS } from "./files/uqff-layer.js";
import type { UqffFallback, UqffLayerDetail, UqffOutput } from "./files/uqff-report.js";
import type { Plan, PlanRow } from "./plan.js";
import { type IsqType, TYPES } from "./quants/table.js";
import { dataByteLength, elementCount } from "./quants/tensor.js";
import { planSafetensorsSave } from "./safetensors-export.js";
import type { SaveFile, SaveTarget } from "./save.js";
import { moduleOf, stackOf, UQFF_RESIDUAL } from "./uqff-checkpoint.js";

/** A file of a set. */
export interface UqffFile {
  /** In its folder. */
  readonly name: string;
  readonly file: SaveFile;
}

export interface UqffExport {
  readonly shards: readonly UqffFile[];
  readonly residual: UqffFile;
  readonly output: UqffOutput;
}

export interface UqffExportOptions {
  /** Shards are `STEM-0.uqff` and so on. */
  readonly stem: string;
  /** Of the safetensors headers. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** A shard grows to this and not beyond, unless one layer is larger; 10 GiB when absent, as with mistral.rs. */
  readonly shardByteLength?: number;
}

const SHARD_BYTES = 10 * 2 ** 30;

/** A tensor of a shard: made of a tensor of the plan, or of fixed bytes. */
interface Piece extends SafetensorsSpec {
  readonly bytes?: Uint8Array;
  /** Tensors of the plan whose data follow each other in it. */
  readonly parts: readonly string[];
  /** As in SaveTarget. */
  readonly rowGroup: number;
  make(tensor: Tensor): Uint8Array;
}

/** A layer of the file. */
interface Module {
  readonly key: string;
  /** More than one: experts, stacked. */
  readonly rows: readonly PlanRow[];
  readonly biases: readonly PlanRow[];
}

/** Plans the files of a model as `plan` makes it. Throws `uqff/type` for tensors that a layer cannot hold. */
export function planUqff(plan: Plan, options: UqffExportOptions): UqffExport {
  const { stem, metadata = {}, shardByteLength = SHARD_BYTES } = options;
  const rows = plan.rows.filter(({ byteLength }) => byteLength > 0);
  const modules = findModules(rows);
  const inModules = new Set(modules.flatMap((module) => [...module.rows, ...module.biases]));
  const groups: Piece[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const module of modules) {
    const pieces = piecesOf(module);
    const own = [...module.rows, ...module.biases].reduce((sum, row) => sum + row.byteLength, 0);
    if (bytes + own > shardByteLength) {
      groups.push([...VERSION]);
      bytes = 0;
    }
    groups[groups.length - 1].push(...pieces);
    bytes += own;
  }
  if (modules.every((module) => module.rows.every(({ type }) => isDense(type)))) {
    const message = "a UQFF file is for quantized layers, and there are none: name a type or give rules";
    throw new IsqError("plan/nothing", message, { field: "output", value: plan.requested });
  }
  const shards = groups.map((pieces, i) => ({ name: `${stem}-${i}.uqff`, file: layOut(pieces, metadata) }));
  const rest = { ...plan, rows: rows.filter((row) => !inModules.has(row)) };
  const residual = { name: UQFF_RESIDUAL, file: planSafetensorsSave(rest, { format: "pt", ...metadata }) };
  return { shards, residual, output: describe(plan, modules, shards) };
}

/** Matrices that quantization may touch, experts stacked where they can be; sorted by key. */
function findModules(rows: readonly PlanRow[]): Module[] {
  const isLayer = ({ role, requested, type }: PlanRow) =>
    role === "linear" || role === "expert" || role === "head" || requested !== null || !isDense(type);
  const weights = rows.filter(isLayer);
  const biasOf = new Map(rows.filter(({ role }) => role === "bias").map((row) => [row.tensor, row]));
  const byKey = new Map<string, PlanRow[]>();
  for (const row of weights) {
    const key = stackOf(moduleOf(row.tensor))?.key ?? moduleOf(row.tensor);
    byKey.set(key, [...(byKey.get(key) ?? []), row]);
  }
  const apart = [...byKey].flatMap(([key, list]): [string, PlanRow[]][] =>
    isStack(list) ? [[key, list]] : list.map((row) => [moduleOf(row.tensor), [row]]),
  );
  return apart
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, list]) => {
      const biases = list.flatMap((row) => biasOf.get(`${moduleOf(row.tensor)}.bias`) ?? []);
      return { key, rows: list, biases };
    });
}

/** Whether tensors are all experts of a layer, in order, of one type whose blocks are independent. */
function isStack(rows: readonly PlanRow[]): boolean {
  const [{ type, shape }] = rows;
  const plain = isDense(type) || TYPES[type].family === "block";
  const alike = (row: PlanRow, i: number) =>
    stackOf(moduleOf(row.tensor))?.expert === i && row.type === type && row.shape.join() === shape.join();
  return plain && rows.every(alike);
}

const u8 = (value: number) => Uint8Array.of(value);
const u32 = (...values: number[]) => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => {
    view.setUint32(4 * i, value, true);
  });
  return new Uint8Array(view.buffer);
};

function fixed(name: string, dtype: string, bytes: Uint8Array, shape: readonly number[] = []): Piece {
  return { name, dtype, shape, bytes, parts: [], rowGroup: 0, make: () => bytes };
}

const VERSION: readonly Piece[] = Object.entries(UQFF_VERSION).map(([part, number]) =>
  fixed(`uqff.version.${part}`, "U32", u32(number)),
);

function piecesOf(module: Module): Piece[] {
  const { key, rows, biases } = module;
  const [{ type, shape, tensor }] = rows;
  const family = isDense(type) ? "dense" : TYPES[type].family;
  const weight = `${key}.weight`;
  const format = { dense: "unquantized", block: "gguf", group: "hqq", tensor: "fp8" } as const;
  const number = UQFF_FORMATS.indexOf(format[family]);
  const parts = rows.map((row) => row.tensor);
  const stacked = rows.length > 1 ? [rows.length, ...shape] : shape;
  const whole = (name: string, dtype: string, own: readonly number[], make: Piece["make"]): Piece => {
    return {
      name,
      dtype,
      shape: own,
      parts,
      rowGroup: family === "dense" || family === "block" ? 1 : 0,
      make,
    };
  };
  const data = ({ data: bytes }: Tensor) => bytes;
  const pieces = [fixed(`${weight}.format`, "U8", u8(number))];
  switch (family) {
    case "dense":
      pieces.push(whole(weight, type, stacked, data));
      break;
    case "block": {
      const bytes = rows.length * dataByteLength(type as IsqType, shape);
      pieces.push(whole(weight, "U8", [bytes], data));
      pieces.push(fixed(`${weight}.dtype`, "U32", u32(ggmlTypeNamed(type)!.id)));
      pieces.push(fixed(`${weight}.shape`, "U32", u32(...stacked), [stacked.length]));
      break;
    }
    case "group":
      pieces.push(...hqqPieces(rows[0], weight, whole));
      break;
    case "tensor":
      pieces.push(whole(weight, "F8_E4M3", shape, data));
      for (const name of ["dequant_w_scale", "dequant_x_scale", "quant_scale"]) {
        const make = (made: Tensor) => narrow(Float32Array.of(scaleOf(made, name, tensor)), "F32");
        pieces.push(whole(`${weight}.${name}`, "F32", [], make));
      }
      pieces.push(fixed(`${weight}.dtype`, "U32", u32(UQFF_DTYPES.indexOf("F8_E4M3"))));
  }
  if (biases.length > 0)
    pieces.push(biasPiece(key, biases, rows.length, family === "block" || family === "group"));
  return pieces;
}

function hqqPieces(
  row: PlanRow,
  weight: string,
  whole: (name: string, dtype: string, shape: readonly number[], make: Piece["make"]) => Piece,
): Piece[] {
  const { tensor, shape } = row;
  const type = row.type as "HQQ4" | "HQQ8";
  const algorithm = row.algorithm ?? row.source.algorithm ?? TYPES[type].algorithms[0];
  if (algorithm !== "mistralrs") {
    const message = `${quote(tensor)} is ${type} of the algorithm ${algorithm}, whose groups UQFF cannot hold`;
    throw new IsqError("uqff/type", message, {
      tensor,
      field: "algorithm",
      value: algorithm,
      limit: "mistralrs",
    });
  }
  const groups = elementCount(shape) / TYPES[type].blockElements;
  const side = (name: "scales" | "zeros") => (made: Tensor) => {
    const values = "algorithm" in made ? made[name] : undefined;
    if (values) return narrow(values, "F32");
    throw new IsqError("data/length", `${tensor} came without ${name}`, { tensor, field: name });
  };
  return [
    whole(weight, "U8", [dataByteLength(type, shape) / groups, groups], ({ data }) => data),
    whole(`${weight}.scales`, "F32", [1, groups], side("scales")),
    whole(`${weight}.zeros`, "F32", [1, groups], side("zeros")),
    fixed(`${weight}.shape`, "U32", u32(...shape), [shape.length]),
    fixed(`${weight}.bits`, "U8", u8(type === "HQQ4" ? 4 : 8)),
    fixed(`${weight}.group_size`, "U32", u32(TYPES[type].blockElements)),
    fixed(`${weight}.axis`, "U8", u8(0)),
    fixed(`${weight}.optimization_steps`, "U32", u32(10)),
    fixed(`${weight}.round_zeros`, "U8", u8(0)),
    fixed(`${weight}.channel_wise`, "U8", u8(1)),
  ];
}

/** What codes are multiplied by stands for activations too, as mistral.rs writes it. */
function scaleOf(made: Tensor, name: string, tensor: string): number {
  const { quantizeScale, dequantizeScale } = "algorithm" in made ? made : {};
  const scale = name === "quant_scale" ? quantizeScale : dequantizeScale;
  if (scale !== undefined) return scale;
  throw new IsqError("data/length", `${tensor} came without its scales`, { tensor, field: name });
}

/** mistral.rs adds the bias of quantized layers in binary32. */
function biasPiece(key: string, biases: readonly PlanRow[], experts: number, wide: boolean): Piece {
  const [{ type, shape, tensor }] = biases;
  if (biases.length !== experts || !isDense(type) || biases.some((row) => row.type !== type)) {
    const message = `${quote(tensor)} and the biases of other experts are not alike`;
    throw new IsqError("uqff/type", message, { tensor, field: "bias", value: type });
  }
  const make = (made: Tensor) => (wide ? narrow(widen(made as DenseTensor), "F32") : made.data);
  const stacked = experts > 1 ? [experts, ...shape] : shape;
  const parts = biases.map((row) => row.tensor);
  return { name: `${key}.bias`, dtype: wide ? "F32" : type, shape: stacked, parts, rowGroup: 1, make };
}

function layOut(pieces: readonly Piece[], metadata: Readonly<Record<string, string>>): SaveFile {
  const version = Object.values(UQFF_VERSION).join(".");
  const layout = layoutSafetensors(pieces, { ...metadata, "uqff.producer": "isq", "uqff.version": version });
  const places = new Map(layout.tensors.map((place) => [place.name, place]));
  const parts: SaveFile["fixed"][number][] = [{ byteOffset: 0, bytes: layout.header }];
  const targets = new Map<string, SaveTarget[]>();
  for (const piece of pieces) {
    const { byteOffset, byteLength } = places.get(piece.name)!;
    if (piece.bytes) parts.push({ byteOffset, bytes: piece.bytes });
    const own = byteLength / Math.max(1, piece.parts.length);
    for (const [i, part] of piece.parts.entries()) {
      const { rowGroup, make } = piece;
      const target = { byteOffset: byteOffset + i * own, byteLength: own, rowGroup, make };
      targets.set(part, [...(targets.get(part) ?? []), target]);
    }
  }
  return { format: "uqff", byteLength: layout.byteLength, fixed: parts, targets };
}

function describe(plan: Plan, modules: readonly Module[], shards: readonly UqffFile[]): UqffOutput {
  const quant = plan.requested === null ? "mixed" : storedName(plan.requested);
  const counts: Record<string, number> = {};
  const details: UqffLayerDetail[] = [];
  const fallbacks: UqffFallback[] = [];
  for (const { key, rows } of modules) {
    const [{ type, requested, reason, substituted, shape: own }] = rows;
    const shape = rows.length > 1 ? [rows.length, ...own] : [...own];
    const stored = isDense(type) ? "unquant" : storedName(type);
    counts[stored] = (counts[stored] ?? 0) + 1;
    details.push({
      module: key,
      ...(plan.requested !== null && { default_target: quant }),
      ...(requested !== null && { resolved_target: storedName(requested) }),
      stored,
      shape,
    });
    if (!substituted || requested === null || stored === storedName(requested)) continue;
    fallbacks.push({
      module: key,
      from: storedName(requested),
      to: stored,
      shape,
      ...(reason && { reason }),
    });
  }
  return {
    quant,
    shards: shards.map(({ name }) => name),
    layers: modules.length,
    actual_counts: Object.fromEntries(Object.entries(counts).sort()),
    fallback_count: fallbacks.length,
    fallbacks,
    layer_details: details,
  };
}
