/** The reference backend: the plainest code that can be right, one part, no state beyond its sessions. */

import { widen } from "../dense.js";
import { IsqError } from "../errors.js";
import { dequantize, quantize } from "../quants/index.js";
import { rowElements } from "../quants/tensor.js";
import type { Backend, Session, SessionOptions, Tensor } from "./backend.js";
import type { Program } from "./program.js";
import { checkParts, isDense, multiplyRows } from "./reference-linear.js";
import { openSession } from "./reference-session.js";

/** Makes a reference backend. Every call is synchronous; the results are the contract for all other backends. */
export function reference(): Backend & { readonly name: "reference" } {
  const sessions = new Set<Session>();
  let open = true;
  const checkOpen = () => {
    if (!open) throw new IsqError("backend/disposed", "the reference backend was disposed");
  };
  return {
    name: "reference",
    quantize(type, values, options) {
      checkOpen();
      return quantize(type, values, options);
    },
    dequantize(tensor) {
      checkOpen();
      return isDense(tensor) ? widen(tensor) : dequantize(tensor);
    },
    matmul(weights, activations) {
      checkOpen();
      return multiply(weights, activations);
    },
    open(program: Program, options: SessionOptions) {
      checkOpen();
      const session: Session = openSession(program, options, () => sessions.delete(session));
      sessions.add(session);
      return session;
    },
    dispose() {
      open = false;
      for (const session of sessions) session.dispose();
    },
  };
}

/**
 * activations [rows × columns] · weightsᵀ [columns × outputs] → [rows × outputs], row-major. Dimensions of the weight
 * before the last count as outputs. Throws `shape/mismatch` when the activations are not whole rows, `data/length` when
 * the weight's parts do not fit its shape.
 */
export function multiply(weights: Tensor, activations: Float32Array): Float32Array {
  checkParts(weights);
  const columns = rowElements(weights.shape);
  const rows = columns === 0 ? 0 : activations.length / columns;
  if (!Number.isInteger(rows)) {
    throw new IsqError("shape/mismatch", `${activations.length} activations are not rows of ${columns}`, {
      field: "activations",
      value: activations.length,
      limit: columns,
    });
  }
  const outputs = weights.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const x = { values: activations, width: columns };
  const out = { values: new Float32Array(rows * outputs), width: outputs };
  multiplyRows(weights, x, rows, out);
  return out.values;
}
