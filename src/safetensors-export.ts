/** What a safetensors file of a model consists of; files/safetensors-quantized.ts says how quantized tensors are stored. */

import type { Tensor } from "./backends/backend.js";
import { DENSE_BYTES, isDense, narrow } from "./dense.js";
import { IsqError } from "./errors.js";
import { quote } from "./files/json.js";
import { formatQuantizedEntry, sideVectors } from "./files/safetensors-quantized.js";
import { layoutSafetensors, type SafetensorsSpec } from "./files/safetensors-write.js";
import { transposeMatrix } from "./model/gguf/rows.js";
import type { Plan } from "./plan.js";
import { TYPES } from "./quants/table.js";
import { dataByteLength } from "./quants/tensor.js";
import type { SaveFile, SaveTarget } from "./save.js";

/** One tensor of the file. */
interface Piece extends SafetensorsSpec {
  /** The tensor of the plan. */
  readonly part: string;
  /** Rows can be made by themselves. */
  readonly byRows: boolean;
  make(tensor: Tensor): Uint8Array;
}

/** Plans the file of a model as `plan` makes it. Throws `safetensors/*` for names that a file cannot hold. */
export function planSafetensorsSave(plan: Plan, metadata: Readonly<Record<string, string>> = {}): SaveFile {
  const own = plan.rows.filter(({ byteLength }) => byteLength > 0);
  const texts: Record<string, string> = { ...metadata };
  const pieces: Piece[] = [];
  for (const row of own) {
    const { tensor: name, type, shape } = row;
    if (isDense(type) && row.source.transposed) {
      const [rows, columns] = shape;
      const make = ({ data }: Tensor) => transposeMatrix(data, rows, columns, DENSE_BYTES[type]);
      pieces.push({ name, dtype: type, shape: [columns, rows], part: name, byRows: false, make });
      continue;
    }
    if (isDense(type)) {
      pieces.push({ name, dtype: type, shape, part: name, byRows: true, make: ({ data }) => data });
      continue;
    }
    const algorithm = row.algorithm ?? row.source.algorithm ?? TYPES[type].algorithms[0];
    const [key, text] = formatQuantizedEntry(name, { type, algorithm, shape });
    texts[key] = text;
    const byRows = TYPES[type].family === "block";
    const bytes = [dataByteLength(type, shape)];
    pieces.push({ name, dtype: "U8", shape: bytes, part: name, byRows, make: ({ data }) => data });
    for (const { suffix, length } of sideVectors(type, shape)) {
      const make = (tensor: Tensor) => narrow(sideValues(tensor, suffix), "F32");
      pieces.push({ name: name + suffix, dtype: "F32", shape: [length], part: name, byRows: false, make });
    }
  }
  const layout = layoutSafetensors(pieces, texts);
  const places = new Map(layout.tensors.map((place) => [place.name, place]));
  const targets = new Map<string, SaveTarget[]>();
  for (const { name, part, byRows, make } of pieces) {
    const { byteOffset, byteLength } = places.get(name)!;
    const target = { byteOffset, byteLength, rowGroup: byRows ? 1 : 0, make };
    targets.set(part, [...(targets.get(part) ?? []), target]);
  }
  const fixed = [{ byteOffset: 0, bytes: layout.header }];
  return { format: "safetensors", byteLength: layout.byteLength, fixed, targets };
}

/** The values of a side vector. Throws `data/length` for a tensor that has no such one. */
export function sideValues(tensor: Tensor, suffix: string): Float32Array {
  if ("algorithm" in tensor) {
    const { scales, zeros, quantizeScale, dequantizeScale } = tensor;
    if (suffix === ".zeros" && zeros) return zeros;
    if (suffix === ".scales" && scales) return scales;
    if (quantizeScale !== undefined && dequantizeScale !== undefined) {
      return Float32Array.of(quantizeScale, dequantizeScale);
    }
  }
  throw new IsqError("data/length", `a tensor of the type ${tensor.type} came without ${quote(suffix)}`, {
    field: suffix,
    value: tensor.type,
  });
}
