/** The checks at the door of every quantizer. */

import { IsqError } from "../errors.js";
import { type IsqType, TYPES } from "./table.js";
import {
  checkFinite,
  checkImportance,
  checkShape,
  elementCount,
  parseAlgorithm,
  parseType,
  type QuantizeOptions,
  rowElements,
} from "./tensor.js";

/** Throws the tagged error of the first rule that `values` and `options` break; returns what they resolve to. */
export function checkQuantize(type: string, values: Float32Array, options: QuantizeOptions) {
  const request = checkRequest(type, values, options);
  if (request.nonFinite === "refuse") checkFinite(values, options.name);
  return request;
}

/** As {@link checkQuantize}, without looking at the values; null for values that are not in memory. */
export function checkRequest(type: string, values: Float32Array | null, options: QuantizeOptions) {
  const row = TYPES[parseType(type)];
  const { shape, importance, name } = options;
  const algorithm = parseAlgorithm(row.name, options.algorithm);
  const about = name === undefined ? {} : { tensor: name };
  const count = elementCount(shape, name);
  if (values !== null && (!(values instanceof Float32Array) || values.length !== count)) {
    throw new IsqError(
      "shape/mismatch",
      `the shape [${shape.join(", ")}] needs a Float32Array of ${count} values, not ${values?.length}`,
      { ...about, field: "values", value: values?.length, limit: count },
    );
  }
  checkShape(row, shape, name);
  if (importance) checkImportance(row, algorithm, importance, rowElements(shape), name);
  const rawDefined = row.rawNonFinite.includes(algorithm);
  const nonFinite = checkNonFiniteOption(options.nonFinite, rawDefined, row.name, algorithm);
  return { row, algorithm, width: rowElements(shape), count, nonFinite };
}

function checkNonFiniteOption(
  choice: QuantizeOptions["nonFinite"],
  rawDefined: boolean,
  type: IsqType,
  algorithm: string,
): "refuse" | "raw" {
  const choices = rawDefined ? ["refuse", "raw"] : ["refuse"];
  if (choice === undefined || choice === "refuse") return "refuse";
  if (choice === "raw" && rawDefined) return "raw";
  const tag = choice === "raw" ? "option/unsupported" : "option/invalid";
  throw new IsqError(tag, `nonFinite "${choice}" is not defined for ${type} with algorithm ${algorithm}`, {
    field: "nonFinite",
    value: choice,
    limit: choices,
  });
}
