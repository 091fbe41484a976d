/**
 * What a GGUF file of a model consists of: its metadata, its tensors in order, and how each is made of tensors of the
 * checkpoint (or of what quantization made of them). Pure; files/gguf-write.ts lays it out and save.ts fills it.
 */

import type { DenseTensor, DenseType, Tensor } from "./backends/backend.js";
import { DENSE_BYTES, narrow, widen } from "./dense.js";
import { IsqError } from "./errors.js";
import { type GgmlType, ggmlTypeNamed } from "./files/ggml-types.js";
import { layoutGgufShards } from "./files/gguf-split.js";
import type { GgufMetadata, GgufValue } from "./files/gguf-values.js";
import { type GgufLayout, type GgufTensorSpec, layoutGguf } from "./files/gguf-write.js";
import { quote } from "./files/json.js";
import type { ModelConfig } from "./model/config.js";
import { type Fields, readInteger } from "./model/fields.js";
import { ggufArchitectureOf, headsOf } from "./model/gguf/architectures.js";
import { metadataOfConfig } from "./model/gguf/config.js";
import { type Change, ggufNamesOf, type NameMatch } from "./model/gguf/names.js";
import { gatherRows, interleavedRows } from "./model/gguf/rows.js";
import { NO_TOKENIZER } from "./model/gguf/tokenizer-write.js";
import type { Plan } from "./plan.js";
import type { IsqType } from "./quants/table.js";
import type { SaveFile, SaveTarget } from "./save.js";

/** A tensor that the model has: as in the checkpoint, or quantized. */
export interface ModelTensor {
  /** Checkpoint name. */
  readonly name: string;
  readonly type: DenseType | IsqType;
  readonly shape: readonly number[];
}

/** One tensor of the file. */
export interface GgufPiece extends GgufTensorSpec {
  /** Checkpoint names of the tensors whose data follow each other in it; none for data of the file's own. */
  readonly parts: readonly string[];
  /** As in SaveTarget. */
  readonly rowGroup: number;
  /** The bytes of a part, or of some whole groups of its rows. Throws `gguf/type` for another type than planned. */
  make(tensor: Tensor): Uint8Array;
  /** Without parts: the bytes of the whole. */
  readonly data?: Uint8Array;
}

export interface GgufExport extends SaveFile {
  readonly format: "gguf";
  readonly metadata: GgufMetadata;
  /** Experts share one tensor of the file. */
  readonly pieces: readonly GgufPiece[];
}

export interface GgufExportOptions {
  /** `general.name`. */
  readonly name?: string;
  /** Type of dense matrices; as they are when absent. Vectors, norms, routers and positions are always F32. */
  readonly dense?: DenseType;
  /** Keys of the tokenizer; see model/gguf/tokenizer-write.ts. Without them the file has none. */
  readonly tokenizer?: GgufMetadata;
  /** Keys that follow, where the file has none of their name. */
  readonly further?: GgufMetadata;
}

/**
 * Plans a file. Tensors keep their order; experts are merged where the first one stands. Throws `architecture/unknown`,
 * `config/*`, `tensor/missing` for incomplete experts, and `gguf/*` for tensors that have no place in a file.
 */
export function planGguf(
  config: ModelConfig,
  tensors: readonly ModelTensor[],
  options: GgufExportOptions = {},
): GgufExport {
  const { metadata, pieces } = describeGguf(config, tensors, options);
  return layOut(metadata, pieces, layoutGguf(metadata, pieces));
}

/** Metadata and tensors of a file, in order. */
function describeGguf(
  config: ModelConfig,
  tensors: readonly ModelTensor[],
  options: GgufExportOptions,
): Pick<GgufExport, "metadata" | "pieces"> {
  const { tensors: rules, name: architecture } = ggufArchitectureOf(config);
  const groups = new Map<string, Group>();
  for (const tensor of tensors) {
    const matches = ggufNamesOf(rules, tensor.name);
    if (matches.length === 0) throw tensorError("gguf/name", tensor, `has no name in ${architecture} files`);
    for (const match of matches) addToGroup(groups, match, tensor);
  }
  const { metadata: hyper, factors } = metadataOfConfig(config, vocabularyOf(config, groups));
  const pieces = [...groups.values()].map((group) => planPiece(group, config.fields, options.dense));
  for (const { name, values } of factors) {
    const data = narrow(values, "F32");
    pieces.push({
      name,
      type: "F32",
      shape: [values.length],
      parts: [],
      rowGroup: 0,
      make: () => data,
      data,
    });
  }
  const metadata = new Map<string, GgufValue>(hyper);
  if (options.name !== undefined) metadata.set("general.name", { type: "string", value: options.name });
  const fileType = fileTypeOf(pieces);
  if (fileType !== null) metadata.set("general.file_type", { type: "u32", value: fileType });
  metadata.set("general.quantization_version", { type: "u32", value: 2 });
  for (const [key, value] of options.tokenizer ?? NO_TOKENIZER) metadata.set(key, value);
  for (const [key, value] of options.further ?? []) if (!metadata.has(key)) metadata.set(key, value);
  return { metadata, pieces };
}

function layOut(metadata: GgufMetadata, pieces: readonly GgufPiece[], layout: GgufLayout): GgufExport {
  return { format: "gguf", metadata, pieces, byteLength: layout.byteLength, ...placePieces(pieces, layout) };
}

/** Plans the file of a model as `plan` makes it. A head that shares its embedding's data has no tensor. Throws as {@link planGguf}. */
export function planGgufSave(config: ModelConfig, plan: Plan, options: GgufExportOptions = {}): GgufExport {
  return planGguf(config, tensorsOf(plan), options);
}

/**
 * Plans a model over files with at most `shardByteLength` bytes of tensors each, named as llama.cpp names them:
 * `STEM-00001-of-00003.gguf`. A larger tensor has a file of its own. Throws as {@link planGguf}, and `gguf/split` for more
 * files than names can count.
 */
export function planGgufShards(
  config: ModelConfig,
  plan: Plan,
  {
    stem,
    shardByteLength,
    ...options
  }: GgufExportOptions & { readonly stem: string; readonly shardByteLength: number },
): { readonly name: string; readonly file: GgufExport }[] {
  const { metadata, pieces } = describeGguf(config, tensorsOf(plan), options);
  return layoutGgufShards(stem, metadata, pieces, shardByteLength).map(({ file: name, layout, tensors }) => {
    const own = tensors.map((i) => pieces[i]);
    return { name, file: layOut(metadata, own, layout) };
  });
}

const tensorsOf = ({ rows }: Plan): ModelTensor[] =>
  rows
    .filter(({ byteLength }) => byteLength > 0)
    .map(({ tensor, type, shape }) => ({ name: tensor, type, shape }));

function placePieces(pieces: readonly GgufPiece[], layout: GgufLayout): Pick<SaveFile, "fixed" | "targets"> {
  const fixed = [{ byteOffset: 0, bytes: layout.header }];
  const targets = new Map<string, SaveTarget[]>();
  for (const [i, { parts, rowGroup, make, data }] of pieces.entries()) {
    const place = layout.tensors[i];
    const byteLength = place.byteLength / Math.max(1, parts.length);
    for (const [index, name] of parts.entries()) {
      const byteOffset = place.byteOffset + index * byteLength;
      targets.set(name, [...(targets.get(name) ?? []), { byteOffset, byteLength, rowGroup, make }]);
    }
    if (data) fixed.push({ byteOffset: place.byteOffset, bytes: data });
    if (place.paddingBytes === 0) continue;
    const end = place.byteOffset + place.byteLength;
    fixed.push({ byteOffset: end, bytes: new Uint8Array(place.paddingBytes) });
  }
  return { fixed, targets };
}

/** The parts of one tensor of the file: one, or one per expert. */
interface Group {
  readonly match: NameMatch;
  readonly parts: ModelTensor[];
}

function addToGroup(groups: Map<string, Group>, match: NameMatch, tensor: ModelTensor): void {
  const known = groups.get(match.name) ?? { match, parts: [] };
  groups.set(match.name, known);
  const index = match.expert ?? 0;
  if (known.parts[index])
    throw tensorError("gguf/duplicate", tensor, `has the place of ${known.parts[index].name}`);
  known.parts[index] = tensor;
}

function vocabularyOf(config: ModelConfig, groups: ReadonlyMap<string, Group>): number {
  const embedding = groups.get("token_embd.weight")?.parts[0];
  return embedding?.shape[0] ?? readInteger(config.fields, "vocab_size", { minimum: 1, maximum: 2 ** 31 });
}

function planPiece({ match, parts }: Group, fields: Fields, dense: DenseType | undefined): GgufPiece {
  const { name } = match;
  const [first] = parts.filter((part) => part !== undefined);
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index];
    if (!part) {
      const message = `${name} lacks expert ${index}`;
      throw new IsqError("tensor/missing", message, { tensor: name, field: "expert", value: index });
    }
    if (part.type !== first.type || part.shape.join() !== first.shape.join()) {
      throw tensorError("gguf/type", part, `cannot be merged with ${first.name}, which is ${first.type}`);
    }
  }
  const { change } = match.rule;
  const shape = changedShape(change, first.shape);
  const type = typeInFile(name, shape, first, dense);
  if (change === "plus-one" && type.isq !== null) {
    throw tensorError("gguf/type", first, `has other values in GGUF files and cannot be ${first.type}`);
  }
  return {
    name,
    type: type.name,
    shape: match.expert === null ? shape : [parts.length, ...shape],
    parts: parts.map((part) => part.name),
    rowGroup: rowGroupOf(change, first.shape, fields),
    make(tensor) {
      if (tensor.type !== first.type || tensor.shape.slice(1).join() !== first.shape.slice(1).join()) {
        throw tensorError("gguf/type", first, `came as ${tensor.type}, not as planned`);
      }
      return changeData(change, retype(tensor, type), rowGroupOf(change, first.shape, fields));
    },
  };
}

/** ggml computes with vectors, norms, routers and positions in F32 only; everything else stays as it is. */
function typeInFile(
  name: string,
  shape: readonly number[],
  { type, ...tensor }: ModelTensor,
  dense: DenseType | undefined,
): GgmlType {
  const always = shape.length <= 1 || ALWAYS_F32.test(name);
  const wanted = always ? "F32" : type in DENSE_BYTES ? (dense ?? type) : type;
  const found = ggmlTypeNamed(wanted);
  if (found && (!always || type in DENSE_BYTES)) return found;
  throw tensorError("gguf/type", { type, ...tensor }, `is ${type}, which GGUF cannot hold as ${name}`);
}

const ALWAYS_F32 = /_norm\.weight$|ffn_gate_inp(_shexp)?\.weight$|^position_embd|\.bias$/;

/** A dense tensor in the file's type; a quantized one as it is. */
function retype(tensor: Tensor, type: GgmlType): Tensor {
  if (type.isq !== null || tensor.type === type.name) return tensor;
  const { shape } = tensor;
  return {
    type: type.name as DenseType,
    shape,
    data: narrow(widen(tensor as DenseTensor), type.name as DenseType),
  };
}

function changedShape(change: Change, shape: readonly number[]): readonly number[] {
  return change === "row" ? shape.slice(1) : shape;
}

/** Rows that the change needs together; 0: all. */
function rowGroupOf(change: Change, shape: readonly number[], fields: Fields): number {
  if (change !== "rope-queries" && change !== "rope-keys") return 1;
  const { heads, kvHeads } = headsOf(fields);
  return shape[0] / (change === "rope-queries" ? heads : kvHeads);
}

function changeData(change: Change, tensor: Tensor, rowGroup: number): Uint8Array {
  const { data, shape } = tensor;
  switch (change) {
    case "rope-queries":
    case "rope-keys":
      return gatherRows(data, interleavedRows(shape[0], shape[0] / rowGroup));
    case "plus-one":
      return narrow(
        widen(tensor as DenseTensor).map((value) => value + 1),
        "F32",
      );
    default:
      return data;
  }
}

function tensorError(
  tag: "gguf/name" | "gguf/type" | "gguf/duplicate",
  tensor: ModelTensor,
  problem: string,
) {
  const details = { tensor: tensor.name, field: "type", value: tensor.type };
  return new IsqError(tag, `${quote(tensor.name)} ${problem}`, details);
}

/** `general.file_type`: llama.cpp's number for the type of most matrices, where it has one. */
function fileTypeOf(pieces: readonly GgufPiece[]): number | null {
  const counts = new Map<string, number>();
  for (const { type, shape } of pieces) {
    if (shape.length > 1) counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most ? (FILE_TYPES[most[0]] ?? null) : null;
}

const FILE_TYPES: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 7,
  Q5_0: 8,
  Q5_1: 9,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 14,
  Q5_K: 16,
  Q6_K: 18,
  BF16: 32,
};
