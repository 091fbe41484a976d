/**
 * Strict binary32 arithmetic and the conversions that every quantizer shares.
 *
 * The contract: IEEE binary32, round to nearest even, every operation rounded by itself, no fused multiply-add, no
 * flush to zero, source order. In JavaScript that is `f32(a * b)`: the product, quotient, sum or square root of two
 * binary32 numbers computed in binary64 and rounded once more equals the binary32 operation, because 53 ≥ 2·24 + 2.
 * So each operation is wrapped by itself; `f32(a * b + c)` would be a fused step and is never written here.
 */

/** Rounds to binary32. */
export const f32 = Math.fround;

const scratchF32 = new Float32Array(1);
const scratchU32 = new Uint32Array(scratchF32.buffer);

/** The bit pattern of a binary32 number. */
export function bitsOf(value: number): number {
  scratchF32[0] = value;
  return scratchU32[0];
}

/** The binary32 number with this bit pattern. */
export function fromBits(bits: number): number {
  scratchU32[0] = bits;
  return scratchF32[0];
}

/**
 * ggml's nearest integer: ties to even for |v| ≤ 4194303, and the bit rule outside of that (so +inf gives -4194304
 * and NaN gives 0, as release builds do). Source: ggml `nearest_int`.
 */
export function nearestInt(v: number): number {
  scratchF32[0] = v + 12582912;
  return (scratchU32[0] & 0x007fffff) - 0x00400000;
}

/**
 * Nearest integer, ties away from zero, saturated to int32, NaN gives 0. Source: Rust `f32::round` and `as i32`.
 * Not Math.round, which sends -1.5 to -1.
 */
export function roundHalfAway(v: number): number {
  const whole = Math.trunc(v);
  const rounded = Math.abs(v - whole) >= 0.5 ? whole + Math.sign(v) : whole;
  return clampInt(rounded, -2147483648, 2147483647);
}

/** Clamps to [low, high]; NaN gives 0, as a saturating cast does. */
export function clampInt(v: number, low: number, high: number): number {
  if (Number.isNaN(v)) return 0;
  return v < low ? low : Math.min(v, high);
}

/**
 * C's float to 8-bit conversion as x86-64 performs it: truncate to int32, keep the low byte; out of int32's range (or
 * NaN) the byte is 0. In range of int8/uint8 this is the C rule; outside, C leaves it undefined and this is ours.
 */
export function truncateToByte(v: number): number {
  return v > -2147483649 && v < 2147483648 ? Math.trunc(v) & 0xff : 0;
}

/** Sign-extends a byte. */
export function signedByte(byte: number): number {
  return (byte << 24) >> 24;
}

/** binary32 to binary16 bits: nearest even, subnormals kept, |v| ≥ 65520 gives infinity, NaN gives sign | 0x7E00. */
export function halfFromFloat(value: number): number {
  const bits = bitsOf(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x33000000) return sign; // less than half of the smallest subnormal
  const subnormal = magnitude < 0x38800000;
  const shift = subnormal ? 126 - (magnitude >>> 23) : 13;
  const significand = subnormal ? (magnitude & 0x7fffff) | 0x800000 : magnitude - 0x38000000;
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const up = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0;
  return sign | (kept + up);
}

/** binary16 bits to binary32, exact; NaN gives a quiet NaN. */
export function floatFromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** binary32 to bfloat16 bits: nearest even on the bit pattern; NaN keeps its upper payload and becomes quiet. */
export function bfloatFromFloat(value: number): number {
  const bits = bitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** bfloat16 bits to binary32, exact. */
export function floatFromBfloat(bfloat: number): number {
  return fromBits((bfloat << 16) >>> 0);
}

/** E4M3 code to its value (1-4-3 bits, bias 7, no infinities, 0x7F and 0xFF are NaN). Source: OCP 8-bit FP, 1.0. */
export function floatFromE4m3(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >>> 3) & 15;
  const fraction = code & 7;
  if (exponent === 15 && fraction === 7) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (8 + fraction) * 2 ** (exponent - 10);
}

/** Nearest E4M3 code, ties to the even code; magnitudes of 448 and above give 0x7E; NaN gives 0x7F. */
export function e4m3FromFloat(value: number): number {
  if (Number.isNaN(value)) return 0x7f;
  const sign = bitsOf(value) >>> 31 ? 0x80 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 448) return sign | 0x7e;
  if (magnitude < 2 ** -6) return sign | roundHalfEven(magnitude * 512); // subnormals: steps of 2^-9; 8 is 0x08
  const exponent = Math.floor(Math.log2(magnitude));
  const biased = exponentOf(magnitude, exponent) + 7;
  const steps = roundHalfEven((magnitude / 2 ** (biased - 7)) * 8); // 8..16; 16 carries into the next exponent
  return sign | (biased * 8 + (steps - 8));
}

/** Corrects a guessed floor(log2 m): a runtime's log2 may be one off next to a power of two. */
function exponentOf(magnitude: number, guess: number): number {
  if (2 ** guess > magnitude) return guess - 1;
  return 2 ** (guess + 1) <= magnitude ? guess + 1 : guess;
}

function roundHalfEven(v: number): number {
  const floor = Math.floor(v);
  const rest = v - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Reads the little-endian 16-bit word at `offset`. */
export function readU16(bytes: Uint8Array, offset: number): number {
  return bytes[offset] | (bytes[offset + 1] << 8);
}

/** Writes the little-endian 16-bit word at `offset`. */
export function writeU16(bytes: Uint8Array, offset: number, word: number): void {
  bytes[offset] = word & 0xff;
  bytes[offset + 1] = (word >>> 8) & 0xff;
}

/** Reads a binary16 field as binary32. */
export function readHalf(bytes: Uint8Array, offset: number): number {
  return floatFromHalf(readU16(bytes, offset));
}

/** Rounds to binary16, stores it, and returns the value it will be read back as. */
export function writeHalf(bytes: Uint8Array, offset: number, value: number): number {
  const half = halfFromFloat(value);
  writeU16(bytes, offset, half);
  return floatFromHalf(half);
}
