/**
 * llama.cpp's importance matrices in GGUF files: for each tensor `NAME.in_sum2` [matrices, columns] and `NAME.counts`
 * [matrices, 1], both F32.
 */

import { type Gguf, type GgufEntry, openGguf } from "./gguf.js";
import type { GgufMetadata, GgufValue } from "./gguf-values.js";
import { type GgufTensorSpec, layoutGguf, toBytes, writeGguf } from "./gguf-write.js";
import { type Imatrix, type ImatrixEntry, isEntryName, refuseImatrix } from "./imatrix-entry.js";
import { quote } from "./json.js";
import type { ByteSource } from "./source.js";

const SUMS = ".in_sum2";
const COUNTS = ".counts";
const TYPE_KEY = "general.type";
const DATASETS_KEY = "imatrix.datasets";
const CHUNKS_KEY = "imatrix.chunk_count";
const CHUNK_TOKENS_KEY = "imatrix.chunk_size";

/** Reads the whole file. Throws `imatrix/*`, `gguf/*`, `source/*`. */
export async function readImatrixGguf(source: ByteSource): Promise<Imatrix> {
  const gguf = await openGguf(source);
  const file = source.name;
  const { metadata } = gguf;
  const type = metadata.get(TYPE_KEY);
  if (type?.type !== "string" || type.value !== "imatrix") {
    const shown = type?.type === "string" ? quote(type.value) : (type?.type ?? "missing");
    const details = { field: TYPE_KEY, value: shown };
    refuseImatrix({ file }, "imatrix/tensor", `${TYPE_KEY} is ${shown}, not "imatrix"`, details);
  }
  return {
    format: "gguf",
    entries: await readEntries(gguf, file),
    datasets: readDatasets(metadata, file),
    ...readCount("chunks", CHUNKS_KEY, metadata, file),
    ...readCount("chunkTokens", CHUNK_TOKENS_KEY, metadata, file),
  };
}

async function readEntries(gguf: Gguf, file: string): Promise<Map<string, ImatrixEntry>> {
  const entries = new Map<string, ImatrixEntry>();
  for (const { name: tensor } of gguf.tensors.values()) {
    if (tensor.endsWith(COUNTS) && gguf.tensors.has(tensor.slice(0, -COUNTS.length) + SUMS)) continue;
    const name = tensor.endsWith(SUMS) ? tensor.slice(0, -SUMS.length) : "";
    if (!isEntryName(name)) {
      const message = `${quote(tensor)} is neither sums nor their counts`;
      refuseImatrix({ file }, "imatrix/tensor", message, { tensor, field: "name" });
    }
    entries.set(name, await readEntry(gguf, name, file));
  }
  if (entries.size === 0) refuseImatrix({ file }, "imatrix/count", "it has no entries", { field: "entries" });
  return entries;
}

async function readEntry(gguf: Gguf, name: string, file: string): Promise<ImatrixEntry> {
  const tensors = [gguf.tensors.get(name + SUMS), gguf.tensors.get(name + COUNTS)];
  const [sums, counts] = tensors.map((entry) => checkTensor(entry, name, file));
  const matrices = counts.shape.reduce((product, size) => product * size, 1);
  const rows = sums.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  if (matrices === 0 || matrices !== rows || sums.byteLength === 0) {
    const message = `${quote(name)} has sums [${sums.shape.join(", ")}] and ${matrices} counts`;
    refuseImatrix({ file }, "imatrix/tensor", message, {
      tensor: name,
      field: "shape",
      value: sums.shape,
      limit: matrices,
    });
  }
  const entry = {
    sums: toFloats(await gguf.read(sums.name)),
    counts: [...toFloats(await gguf.read(counts.name))],
  };
  checkCounts(entry, name, file);
  return entry;
}

function checkTensor(entry: GgufEntry | undefined, name: string, file: string): GgufEntry {
  if (entry?.dtype === "F32") return entry;
  const message = entry
    ? `${quote(entry.name)} is ${entry.dtype}, not F32`
    : `${quote(name)} has sums and no counts, which they are to be divided by`;
  return refuseImatrix({ file }, "imatrix/tensor", message, {
    tensor: name,
    field: "type",
    value: entry?.dtype,
  });
}

/** Refuses what nobody can have counted: counts that are no numbers, and sums of nothing. */
function checkCounts({ sums, counts }: ImatrixEntry, name: string, file: string): void {
  const columns = sums.length / counts.length;
  for (const [matrix, count] of counts.entries()) {
    const details = { tensor: name, field: "counts", value: String(count), matrix };
    if (!(count >= 0 && count < Number.POSITIVE_INFINITY)) {
      refuseImatrix({ file }, "imatrix/value", `${quote(name)} has the count ${count}`, details);
    }
    const own = sums.subarray(matrix * columns, (matrix + 1) * columns);
    if (count === 0 && own.some((sum) => sum !== 0)) {
      refuseImatrix(
        { file },
        "imatrix/value",
        `${quote(name)} has sums over nothing: its count is 0`,
        details,
      );
    }
  }
}

function toFloats(bytes: Uint8Array): Float32Array {
  // Copied: a view needs an aligned start.
  return new Float32Array(bytes.slice().buffer);
}

function readDatasets(metadata: GgufMetadata, file: string): readonly string[] {
  const value = metadata.get(DATASETS_KEY);
  if (value === undefined) return [];
  if (value.type === "array" && value.items === "string") return value.values;
  const message = `${DATASETS_KEY} is not a list of names`;
  return refuseImatrix({ file }, "imatrix/tensor", message, { field: DATASETS_KEY, value: value.type });
}

function readCount<Field extends string>(
  field: Field,
  key: string,
  metadata: GgufMetadata,
  file: string,
): { [Name in Field]?: number } {
  const found = metadata.get(key);
  if (found === undefined) return {};
  if (found.type === "u32") return { [field]: found.value } as { [Name in Field]: number };
  return refuseImatrix({ file }, "imatrix/tensor", `${key} is ${found.type}, not u32`, {
    field: key,
    value: found.type,
  });
}

/** Writes llama.cpp's form; names must be GGUF's. Throws `gguf/*` for what could not be read back. */
export async function writeImatrixGguf({
  entries,
  datasets,
  chunks,
  chunkTokens,
}: Omit<Imatrix, "format">): Promise<Uint8Array> {
  const metadata = new Map<string, GgufValue>([
    [TYPE_KEY, { type: "string", value: "imatrix" }],
    [DATASETS_KEY, { type: "array", items: "string", values: datasets }],
    [CHUNKS_KEY, { type: "u32", value: chunks ?? 0 }],
    [CHUNK_TOKENS_KEY, { type: "u32", value: chunkTokens ?? 0 }],
  ]);
  const specs: GgufTensorSpec[] = [];
  const data: Float32Array[] = [];
  for (const [name, { sums, counts }] of entries) {
    const matrices = counts.length;
    specs.push(
      { name: name + SUMS, type: "F32", shape: [matrices, sums.length / matrices] },
      { name: name + COUNTS, type: "F32", shape: [matrices, 1] },
    );
    data.push(sums, Float32Array.from(counts));
  }
  const layout = layoutGguf(metadata, specs);
  const sink = toBytes(layout.byteLength);
  await writeGguf(
    layout,
    (_place, index) => new Uint8Array(data[index].buffer, data[index].byteOffset, data[index].byteLength),
    sink,
  );
  return sink.bytes;
}
