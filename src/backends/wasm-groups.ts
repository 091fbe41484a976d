/** HQQ's codes in the order of the elements, and back in the order of the format, which mixes all rows. */

/** Bytes of a row in element order. */
export function flatRowBytes(bits: 4 | 8, width: number): number {
  return bits === 8 ? width : (width + 1) >> 1;
}

/** Codes of whole rows in element order; two to a byte, the even element low, each row from a whole byte on. */
export function flattenCodes(
  data: Uint8Array,
  groups: number,
  bits: 4 | 8,
  contiguous: boolean,
  first: number,
  width: number,
  out: Uint8Array,
): void {
  const rowBytes = flatRowBytes(bits, width);
  out.fill(0);
  for (let start = 0, element = first; start < out.length; start += rowBytes) {
    for (let i = 0; i < width; i++, element++) {
      const r = contiguous ? element & 63 : Math.floor(element / groups);
      const j = contiguous ? Math.floor(element / 64) : element % groups;
      const byte = data[(bits === 8 ? r : r & 31) * groups + j];
      if (bits === 8) out[start + i] = byte;
      else out[start + (i >> 1)] |= (r < 32 ? byte >> 4 : byte & 15) << (4 * (i & 1));
    }
  }
}

/** What {@link flattenCodes} was given, from all rows in element order. */
export function gatherCodes(
  flat: Uint8Array,
  groups: number,
  bits: 4 | 8,
  contiguous: boolean,
  width: number,
): Uint8Array {
  const data = new Uint8Array((groups * 64 * bits) / 8);
  const rowBytes = flatRowBytes(bits, width);
  for (let start = 0, element = 0; start < flat.length; start += rowBytes) {
    for (let i = 0; i < width; i++, element++) {
      const r = contiguous ? element & 63 : Math.floor(element / groups);
      const j = contiguous ? Math.floor(element / 64) : element % groups;
      if (bits === 8) data[r * groups + j] = flat[start + i];
      else {
        const code = (flat[start + (i >> 1)] >> (4 * (i & 1))) & 15;
        data[(r & 31) * groups + j] |= r < 32 ? code << 4 : code;
      }
    }
  }
  return data;
}
