/** Importance for commands that have tensors but no model. */

import { IsqError } from "../errors.js";
import { type Importance, matchImportance } from "../importance.js";
import { readImatrix } from "../inputs.js";

/** Reads a matrix for tensors of these names. Throws `imatrix/*`, and `option/unsupported` for one without names. */
export async function readImportanceOf(
  file: string,
  tensors: Iterable<{ readonly name: string; readonly shape: readonly number[] }>,
): Promise<Importance> {
  const matrix = await readImatrix(file);
  if (matrix.format === "cimatrix-v1") {
    const message = `${file} numbers the layers of a model, and here is none to count in; use a matrix with names`;
    throw new IsqError("option/unsupported", message, { file, field: "imatrix", value: matrix.format });
  }
  const weights = Array.from(
    tensors,
    ({ name, shape }) => ({ name, shape, role: "linear", layer: null }) as const,
  );
  return matchImportance(matrix, { weights });
}
