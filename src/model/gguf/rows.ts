/** Moving rows of tensors, dense or quantized: rows are runs of bytes. */

/**
 * The order of rows in a GGUF file for rotary pairs that are halves apart in the checkpoint and neighbours in the file: file
 * row i is checkpoint row `order[i]`. `rows` is a multiple of `heads`, with an even number of rows per head.
 */
export function interleavedRows(rows: number, heads: number): Uint32Array {
  const order = new Uint32Array(rows);
  const width = rows / heads;
  for (let row = 0; row < rows; row++) {
    const at = row % width;
    order[row] = row - at + (at % 2) * (width / 2) + (at >> 1);
  }
  return order;
}

/** The inverse of an order. */
export function invertRows(order: Uint32Array): Uint32Array {
  const inverse = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i++) inverse[order[i]] = i;
  return inverse;
}

/** Row i of the result is row `order[i]` of `data`; rows have `data.length / order.length` bytes. */
export function gatherRows(data: Uint8Array, order: Uint32Array): Uint8Array {
  const rowBytes = data.byteLength / order.length;
  const out = new Uint8Array(data.byteLength);
  for (let i = 0; i < order.length; i++) {
    const from = order[i] * rowBytes;
    out.set(data.subarray(from, from + rowBytes), i * rowBytes);
  }
  return out;
}

/** A row-major matrix of elements of `elementBytes` bytes, transposed. */
export function transposeMatrix(
  data: Uint8Array,
  rows: number,
  columns: number,
  elementBytes: number,
): Uint8Array {
  const out = new Uint8Array(data.byteLength);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * columns + column) * elementBytes;
      const to = (column * rows + row) * elementBytes;
      for (let i = 0; i < elementBytes; i++) out[to + i] = data[from + i];
    }
  }
  return out;
}
