/** What quantize and dequantize accept, refuse, and how the refusals read. */

import { describe, expect, it } from "vitest";
import {
  type Algorithm,
  dequantize,
  dot,
  type ErrorTag,
  type IsqError,
  type IsqType,
  isIsqError,
  parseType,
  type QuantizeOptions,
  quantize,
  TYPE_NAMES,
  TYPES,
} from "../../src/quants/index.js";
import { randomFrom } from "../suites/rows.js";

/** The error that `run` throws, which must have this tag. */
function refusal(tag: ErrorTag, run: () => unknown): IsqError {
  try {
    run();
  } catch (error) {
    if (isIsqError(error, tag)) return error;
    throw error;
  }
  throw new Error(`nothing was thrown, expected ${tag}`);
}

function gauss(count: number, seed = 1): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: count }, () => random.gauss());
}

const COLUMNS = 256;
const values = gauss(2 * COLUMNS);
const shape = [2, COLUMNS];
const ones = new Float32Array(COLUMNS).fill(1);

/** Every type with each of its algorithms. */
const ENCODERS: [IsqType, Algorithm][] = TYPE_NAMES.flatMap((type) =>
  TYPES[type].algorithms.map((algorithm): [IsqType, Algorithm] => [type, algorithm]),
);

describe("type names", () => {
  it("are fifteen", () => expect(TYPE_NAMES).toHaveLength(15));

  it.each(TYPE_NAMES)("%s parses in any case and in ggml's spelling", (type) => {
    const { stem, ggml } = TYPES[type];
    for (const name of [type, type.toLowerCase(), stem, stem.toUpperCase(), ggml?.name ?? type]) {
      expect(parseType(name)).toBe(type);
      expect(quantize(name, values, { shape }).type).toBe(type);
    }
  });

  it.each(["", "Q9K", "Q4", "q4__k", " Q4K", "toString", "__proto__"])(
    "%j is refused with all names",
    (name) => {
      const error = refusal("type/unknown", () => quantize(name, values, { shape }));
      for (const type of TYPE_NAMES) expect(error.message).toContain(type);
      expect(error.details).toMatchObject({ field: "type", value: name, limit: TYPE_NAMES });
    },
  );

  it("algorithms outside of the type's list are refused with the list", () => {
    for (const type of TYPE_NAMES) {
      const algorithm = "candle" as Algorithm;
      const error = refusal("algorithm/unknown", () => quantize(type, values, { shape, algorithm }));
      expect(error.details.limit).toEqual(TYPES[type].algorithms);
    }
    refusal("algorithm/unknown", () => quantize("Q4K", values, { shape, algorithm: "hqq" }));
    refusal("algorithm/unknown", () => quantize("FP8", values, { shape, algorithm: "ggml" }));
  });

  it("the default algorithm is the first of the list", () => {
    for (const type of TYPE_NAMES) {
      const tensor = quantize(type, values, { shape });
      expect(tensor).toEqual(quantize(type, values, { shape, algorithm: TYPES[type].algorithms[0] }));
      expect(tensor.algorithm).toBe(TYPES[type].algorithms[0]);
    }
  });
});

describe("importance", () => {
  it.each(ENCODERS)("%s %s takes it as the table says", (type, algorithm) => {
    const options = { shape, algorithm, importance: ones };
    if (TYPES[type].importance.includes(algorithm)) {
      expect(quantize(type, values, options).data).toHaveLength(
        quantize(type, values, { shape }).data.length,
      );
    } else {
      const error = refusal("importance/unsupported", () => quantize(type, values, options));
      expect(error.message).toContain(type);
      expect(error.details.limit).toEqual(TYPES[type].importance);
    }
  });

  it.each([0, 1, 255, 257, 512])("of %i values for 256 columns is refused", (length) => {
    const importance = new Float32Array(length).fill(1);
    const run = () => quantize("Q4K", values, { shape, importance, name: "w.weight" });
    expect(refusal("importance/length", run).details).toMatchObject({
      tensor: "w.weight",
      value: length,
      limit: COLUMNS,
    });
  });

  it.each([Number.NaN, -1, -1e-30, Number.POSITIVE_INFINITY])("with a %d is refused at its column", (bad) => {
    const importance = ones.slice();
    importance[77] = bad;
    for (const type of ["Q2K", "Q6K", "Q4_0"] as const) {
      const error = refusal("importance/value", () => quantize(type, values, { shape, importance }));
      expect(error.details).toMatchObject({ field: "importance", index: 77 });
    }
  });

  it("of a NaN scale in mistralrs is encoded again without importance, and counted", () => {
    const importance = ones.slice().fill(0, 16, 32);
    const options = { shape, algorithm: "mistralrs" } as const;
    const tensor = quantize("Q3K", values, { ...options, importance });
    expect(tensor.reencodedBlocks).toBe(2);
    expect(tensor.data).toEqual(quantize("Q3K", values, options).data);
    expect(quantize("Q3K", values, options)).not.toHaveProperty("reencodedBlocks");
  });
});

describe("shapes", () => {
  const bad: [string, ErrorTag, readonly number[]][] = [
    ["no dimensions", "shape/invalid", []],
    ["a negative dimension", "shape/invalid", [-2, -256]],
    ["a fraction", "shape/invalid", [0.5, 1024]],
    ["NaN", "shape/invalid", [Number.NaN, 256]],
    ["an infinite dimension", "shape/invalid", [Number.POSITIVE_INFINITY, 0]],
    ["a dimension beyond exact integers", "shape/invalid", [2 ** 53, 0]],
    ["too many elements", "shape/invalid", [2 ** 40, 2 ** 40]],
    ["too many dimensions", "shape/invalid", [...Array(40).fill(1), 512]],
    ["another element count", "shape/mismatch", [3, 256]],
    ["one element less", "shape/mismatch", [511]],
  ];
  it.each(bad)("with %s are refused", (_what, tag, wrong) => {
    for (const type of TYPE_NAMES) refusal(tag, () => quantize(type, values, { shape: wrong }));
  });

  it("that are no list are refused", () => {
    for (const wrong of [undefined, null, 512, "512"]) {
      const options = { shape: wrong } as unknown as QuantizeOptions;
      refusal("shape/invalid", () => quantize("Q4K", values, options));
    }
  });

  it("whose rows are no whole blocks are refused, with the multiple that is needed", () => {
    for (const type of TYPE_NAMES) {
      const { blockElements, family } = TYPES[type];
      if (blockElements === 1) continue;
      const wrong = family === "block" ? [blockElements, 3] : [3, 5];
      const input = gauss(wrong[0] * wrong[1]);
      const error = refusal("shape/block", () => quantize(type, input, { shape: wrong, name: "w" }));
      expect(error.details).toMatchObject({ tensor: "w", limit: blockElements });
    }
  });

  it("other than Float32Array values are refused", () => {
    for (const wrong of [new Float64Array(512), [...values], undefined]) {
      refusal("shape/mismatch", () => quantize("Q4K", wrong as unknown as Float32Array, { shape }));
    }
  });

  it.each(ENCODERS)("%s %s: zero elements give zero bytes", (type, algorithm) => {
    for (const empty of [[0], [0, 256], [256, 0], [4, 0, 512]]) {
      const tensor = quantize(type, new Float32Array(0), { shape: empty, algorithm });
      expect(tensor.data).toHaveLength(0);
      expect(tensor.shape).toEqual(empty);
      expect(dequantize(tensor)).toEqual(new Float32Array(0));
    }
  });
});

describe("non-finite weights", () => {
  it.each(ENCODERS)("%s %s: refused with name and index", (type, algorithm) => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const broken = values.slice();
      broken[300] = bad;
      broken[400] = bad;
      const run = () => quantize(type, broken, { shape, algorithm, name: "layer.7.weight" });
      const error = refusal("values/non-finite", run);
      expect(error.message).toContain("layer.7.weight");
      expect(error.message).toContain("300");
      expect(error.details).toMatchObject({ tensor: "layer.7.weight", index: 300 });
    }
  });

  it.each(ENCODERS)("%s %s: raw is defined as the table says", (type, algorithm) => {
    const broken = values.slice();
    broken[300] = Number.NaN;
    const options = { shape, algorithm, nonFinite: "raw" } as const;
    if (!TYPES[type].rawNonFinite.includes(algorithm)) {
      refusal("option/unsupported", () => quantize(type, broken, options));
      return;
    }
    const { data } = quantize(type, broken, options);
    if (TYPES[type].family !== "block") {
      // One group's NaN reaches the others through the stop test of HQQ; FP8's codes stay apart.
      expect(quantize(type, broken, options).data).toEqual(data);
      if (type === "FP8") expect(data[300]).toBe(0x7f);
      return;
    }
    const first = data.subarray(0, TYPES[type].blockBytes);
    expect(first).toEqual(quantize(type, values, options).data.subarray(0, TYPES[type].blockBytes));
  });

  it("an unknown choice is refused", () => {
    const options = { shape, nonFinite: "clamp" } as unknown as QuantizeOptions;
    refusal("option/invalid", () => quantize("Q4K", values, options));
  });
});

describe("quantized tensors", () => {
  it.each(ENCODERS)("%s %s: the input is left alone and the result is plain data", (type, algorithm) => {
    const importance = TYPES[type].importance.includes(algorithm)
      ? { importance: values.slice(0, COLUMNS).map(Math.abs) }
      : {};
    const before = structuredClone({ values, importance });
    const tensor = quantize(type, values, { shape, algorithm, ...importance });
    expect({ values, importance }).toEqual(before);
    expect(structuredClone(tensor)).toEqual(tensor);
    expect(dequantize(structuredClone(tensor))).toEqual(dequantize(tensor));
  });

  it.each(ENCODERS)("%s %s: data of another length is refused", (type, algorithm) => {
    const tensor = quantize(type, values, { shape, algorithm });
    for (const data of [tensor.data.subarray(1), new Uint8Array(0), new Uint8Array(tensor.data.length + 1)]) {
      const error = refusal("data/length", () => dequantize({ ...tensor, data }));
      expect(error.details).toMatchObject({ value: data.length, limit: tensor.data.length });
    }
    refusal("data/length", () => dequantize({ ...tensor, shape: [1, COLUMNS] }));
  });

  it("HQQ and FP8 without their scales are refused", () => {
    const { scales, ...noScales } = quantize("HQQ4", values, { shape });
    refusal("data/length", () => dequantize(noScales));
    refusal("data/length", () => dequantize({ ...noScales, scales: (scales as Float32Array).subarray(1) }));
    const { zeros: _, ...noZeros } = quantize("HQQ8", values, { shape });
    refusal("data/length", () => dequantize(noZeros));
    const { dequantizeScale: __, ...noScale } = quantize("FP8", values, { shape });
    refusal("data/length", () => dequantize(noScale));
  });

  it("values from the middle of a buffer are read where they are", () => {
    const wide = new Float32Array(3 * COLUMNS * 2);
    wide.set(values, COLUMNS);
    const inside = wide.subarray(COLUMNS, 3 * COLUMNS);
    for (const [type, algorithm] of ENCODERS) {
      expect(quantize(type, inside, { shape, algorithm })).toEqual(
        quantize(type, values, { shape, algorithm }),
      );
    }
  });

  it("data from the middle of a buffer is read where it is", () => {
    for (const [type, algorithm] of ENCODERS) {
      const tensor = quantize(type, values, { shape, algorithm });
      const wide = new Uint8Array(tensor.data.length + 7);
      wide.set(tensor.data, 3);
      const data = wide.subarray(3, 3 + tensor.data.length);
      expect(dequantize({ ...tensor, data })).toEqual(dequantize(tensor));
    }
  });
});

describe("dot", () => {
  it("refuses rows of different lengths and types without blocks", () => {
    const weights = quantize("Q4K", values, { shape }).data;
    const activations = quantize("Q8K", values, { shape }).data;
    expect(dot("q4_k", weights, activations)).toBeTypeOf("number");
    refusal("data/length", () => dot("Q4K", weights, activations.subarray(292)));
    refusal("data/length", () => dot("Q4K", weights.subarray(1), activations));
    refusal("data/length", () => dot("Q4_0", weights.subarray(0, 18), activations.subarray(0, 292)));
    refusal("type/unsupported", () => dot("HQQ4", weights, activations));
    refusal("type/unsupported", () => dot("FP8", weights, activations));
  });
});
