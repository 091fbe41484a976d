/** What the block viewer computes: every type's units, their errors and their contents, against the whole tensor decoded. */

import { describe, expect, test } from "vitest";
import { showExactly } from "../../pages/dom.js";
import { mapWidth } from "../../pages/viewer/heat-map.js";
import { type OpenFile, openTensorView } from "../../pages/viewer/tensor-view.js";
import { unitsOf } from "../../pages/viewer/units.js";
import { narrow } from "../../src/dense.js";
import type { CheckpointEntry } from "../../src/files/checkpoint.js";
import { dequantize, type QuantizedTensor, quantize, TYPE_NAMES, TYPES } from "../../src/quants/index.js";
import { gauss } from "../suites/encoders.js";

const SHAPE = [24, 768];
const VALUES = gauss(SHAPE[0] * SHAPE[1], 3);
const signal = new AbortController().signal;

const fileOf = (
  entry: CheckpointEntry,
  data: Uint8Array,
  sides: Partial<QuantizedTensor> = {},
): OpenFile => ({
  name: "memory",
  tensors: new Map([[entry.name, entry]]),
  readRange: async (_name, start, end) => data.subarray(start, end),
  readSides: async () => sides,
});

function quantized({ type, algorithm, data, ...sides }: QuantizedTensor): [OpenFile, CheckpointEntry] {
  const entry = { name: "w", dtype: type, algorithm, shape: SHAPE, byteLength: data.length };
  return [fileOf(entry, data, sides), entry];
}

const source = fileOf(
  { name: "w", dtype: "F32", shape: SHAPE, byteLength: 4 * VALUES.length },
  narrow(VALUES, "F32"),
);

const ENCODERS = TYPE_NAMES.flatMap((type) =>
  TYPES[type].algorithms.map((algorithm) => [type, algorithm] as const),
);

describe("a quantized tensor", () => {
  test.each(ENCODERS)("%s %s: errors and contents of every unit", async (type, algorithm) => {
    const tensor = quantize(type, VALUES, { shape: SHAPE, algorithm });
    const decoded = dequantize(tensor);
    const view = openTensorView(...quantized(tensor), source);
    const shares: number[] = [];
    const { rms, relative } = await view.measure(signal, (share) => shares.push(share));
    expect(shares.at(-1)).toBe(1);
    const seen = new Set<number>();
    for (let unit = 0; unit < view.units.count; unit += 7) {
      const { elements } = await view.read(unit);
      let [noise, power] = [0, 0];
      for (const { index, decoded: ours, source: theirs } of elements) {
        seen.add(index);
        expect([ours, theirs]).toEqual([decoded[index], VALUES[index]]);
        noise += (decoded[index] - VALUES[index]) ** 2;
        power += VALUES[index] ** 2;
      }
      expect(rms[unit]).toBe(Math.fround(Math.sqrt(noise / elements.length)));
      expect(relative[unit]).toBe(Math.fround(Math.sqrt(noise / power)));
    }
    expect(seen.size).toBe(Math.ceil(view.units.count / 7) * view.units.elements);
  });

  test.each(TYPE_NAMES)("%s: codes and scales give the decoded values", async (type) => {
    const tensor = quantize(type, VALUES, { shape: SHAPE });
    const view = openTensorView(...quantized(tensor), null);
    expect(view.hasSource).toBe(false);
    const { elements, scales, subScales, subMins } = await view.read(view.units.count - 1);
    const of = Object.fromEntries(scales);
    const perSub = elements.length / Math.max(1, subScales.length);
    for (const [i, { code, decoded }] of elements.entries()) {
      const q = code?.value as number;
      const j = Math.floor(i / perSub);
      const scale = (of["d"] ?? of["scale"] ?? of["scale of the tensor"]) * (subScales[j]?.value ?? 1);
      const offset =
        "zero" in of ? -of["zero"] * scale : (of["m"] ?? -(of["dmin"] ?? 0) * (subMins[j]?.value ?? 0));
      expect(decoded, `element ${i}`).toBeCloseTo(scale * q + offset, 6);
    }
  });

  test("a source of another shape is refused; one without the tensor is none", () => {
    const [file, entry] = quantized(quantize("Q8_0", VALUES, { shape: SHAPE }));
    const other = { ...source, tensors: new Map([["w", { ...source.tensors.get("w")!, shape: [768, 24] }]]) };
    expect(() => openTensorView(file, entry, other)).toThrow(
      expect.objectContaining({ tag: "tensor/shape" }),
    );
    expect(openTensorView(file, entry, { ...source, tensors: new Map() }).hasSource).toBe(false);
  });

  test("measuring stops when it is told to", async () => {
    const view = openTensorView(...quantized(quantize("Q8_0", VALUES, { shape: SHAPE })), source);
    await expect(view.measure(AbortSignal.abort(), () => {})).rejects.toMatchObject({ tag: "aborted" });
  });
});

test("dense tensors: runs of 32, a short one at the end of each row", async () => {
  const values = gauss(3 * 50, 5);
  const entry = { name: "w", dtype: "BF16", shape: [3, 50], byteLength: 300 };
  const full = fileOf({ ...entry, dtype: "F32", byteLength: 600 }, narrow(values, "F32"));
  const view = openTensorView(fileOf(entry, narrow(values, "BF16")), entry, full);
  expect(view.units).toMatchObject({ count: 6, perLine: 2, name: "run" });
  expect(view.units.describe(3)).toBe("row 1, columns 32 to 49");
  const { elements, scales } = await view.read(3);
  expect([elements.length, elements[0].index, scales]).toEqual([18, 82, []]);
  const { rms } = await view.measure(signal, () => {});
  expect(rms.every((value) => value > 0 && value < 1e-3)).toBe(true);
});

test("groups of HQQ are where the algorithm puts them", () => {
  const strided = unitsOf("HQQ4", "mistralrs", [64, 128]);
  expect([...strided.indicesOf(5)].slice(0, 3)).toEqual([5, 133, 261]);
  expect(strided).toMatchObject({ count: 128, perLine: 128 });
  const consecutive = unitsOf("HQQ4", "hqq", [64, 128]);
  expect([...consecutive.indicesOf(5)].slice(0, 3)).toEqual([320, 321, 322]);
  expect(consecutive).toMatchObject({ count: 128, perLine: 2 });
});

test("a map is about as wide as high, in whole lines", () => {
  expect(mapWidth(768, 1)).toBe(28);
  expect(mapWidth(768, 3)).toBe(27);
  expect(mapWidth(4096, 128)).toBe(128);
});

test("numbers are shown with as many digits as they need", () => {
  const shown = [0.1, 1 / 3, 16777216, 1e-45, 0, -0, Number.NaN].map((value) =>
    showExactly(Math.fround(value)),
  );
  expect(shown).toEqual(["0.1", "0.33333334", "16777216", "1e-45", "0", "-0", "NaN"]);
  for (const value of VALUES.subarray(0, 500)) expect(Math.fround(Number(showExactly(value)))).toBe(value);
});
