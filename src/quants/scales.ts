/** Bit packing shared by several types. Codes are unsigned; each pack function has its inverse beside it. */

/** 32 codes to 16 bytes: low nibble of byte j is element j, high nibble element j + 16. Bits above the 4th are dropped. */
export function packNibbles(codes: Uint8Array, out: Uint8Array, offset: number): void {
  for (let j = 0; j < 16; j++) out[offset + j] = (codes[j] & 15) | ((codes[j + 16] & 15) << 4);
}

export function unpackNibbles(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  for (let j = 0; j < 16; j++) {
    codes[j] = bytes[offset + j] & 15;
    codes[j + 16] = bytes[offset + j] >> 4;
  }
}

/** The fifth bits of 32 codes as a little-endian u32: bit j is bit 4 of code j. */
export function packFifthBits(codes: Uint8Array, out: Uint8Array, offset: number): void {
  for (let j = 0; j < 32; j++) out[offset + (j >> 3)] |= ((codes[j] >> 4) & 1) << (j & 7);
}

/** Adds the fifth bits to codes that hold the low four. */
export function unpackFifthBits(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  for (let j = 0; j < 32; j++) codes[j] |= ((bytes[offset + (j >> 3)] >> (j & 7)) & 1) << 4;
}

/** 256 codes to 64 bytes of 2 bits: in each half of 128, byte l holds elements l, l + 32, l + 64, l + 96. */
export function packPairs(codes: Uint8Array, out: Uint8Array, offset: number): void {
  for (let half = 0; half < 2; half++) {
    for (let l = 0; l < 32; l++) {
      const first = 128 * half + l;
      out[offset + 32 * half + l] =
        (codes[first] & 3) |
        ((codes[first + 32] & 3) << 2) |
        ((codes[first + 64] & 3) << 4) |
        ((codes[first + 96] & 3) << 6);
    }
  }
}

export function unpackPairs(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  for (let i = 0; i < 256; i++) {
    const byte = bytes[offset + 32 * (i >> 7) + (i & 31)];
    codes[i] = (byte >> (2 * ((i >> 5) & 3))) & 3;
  }
}

/** Q4_K's and Q5_K's nibbles, 256 codes to 128 bytes: byte 32g + l holds elements 64g + l (low) and 64g + 32 + l. */
export function packNibblePlanes(codes: Uint8Array, out: Uint8Array, offset: number): void {
  for (let g = 0; g < 4; g++) {
    for (let l = 0; l < 32; l++) {
      out[offset + 32 * g + l] = (codes[64 * g + l] & 15) | ((codes[64 * g + 32 + l] & 15) << 4);
    }
  }
}

export function unpackNibblePlanes(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  for (let i = 0; i < 256; i++) {
    const byte = bytes[offset + 32 * (i >> 6) + (i & 31)];
    codes[i] = i & 32 ? byte >> 4 : byte & 15;
  }
}

/** K4: eight 6-bit scales and eight 6-bit minima in 12 bytes. */
export function packSixBitPairs(scales: Uint8Array, mins: Uint8Array, out: Uint8Array, offset: number): void {
  for (let j = 0; j < 4; j++) {
    out[offset + j] = scales[j] | ((scales[j + 4] >> 4) << 6);
    out[offset + j + 4] = mins[j] | ((mins[j + 4] >> 4) << 6);
    out[offset + j + 8] = (scales[j + 4] & 15) | ((mins[j + 4] & 15) << 4);
  }
}

export function unpackSixBitPairs(
  bytes: Uint8Array,
  offset: number,
  scales: Uint8Array,
  mins: Uint8Array,
): void {
  for (let j = 0; j < 4; j++) {
    scales[j] = bytes[offset + j] & 63;
    mins[j] = bytes[offset + j + 4] & 63;
    scales[j + 4] = (bytes[offset + j + 8] & 15) | ((bytes[offset + j] >> 6) << 4);
    mins[j + 4] = (bytes[offset + j + 8] >> 4) | ((bytes[offset + j + 4] >> 6) << 4);
  }
}

/** Q3_K's sixteen 6-bit scales in 12 bytes: low nibbles in bytes 0..7, upper two bits in bytes 8..11. */
export function packSixBitScales(codes: Uint8Array, out: Uint8Array, offset: number): void {
  for (let j = 0; j < 16; j++) {
    out[offset + (j & 7)] |= (codes[j] & 15) << (j < 8 ? 0 : 4);
    out[offset + 8 + (j & 3)] |= (codes[j] >> 4) << (2 * (j >> 2));
  }
}

export function unpackSixBitScales(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  for (let j = 0; j < 16; j++) {
    const low = (bytes[offset + (j & 7)] >> (j < 8 ? 0 : 4)) & 15;
    codes[j] = low | (((bytes[offset + 8 + (j & 3)] >> (2 * (j >> 2))) & 3) << 4);
  }
}
