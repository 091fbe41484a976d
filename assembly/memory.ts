// The memory map. The first 64 KiB belong to the kernels as scratch at fixed addresses: a constant address costs nothing
// in an instruction, a pointer costs a register. What AssemblyScript itself places (`memory.data`) follows from
// 65536 on (`memoryBase` in asconfig.json), then HEAP_BASE; from there on memory is the caller's.

/** Eight sub-blocks of up to 32 elements, transposed: vector i of half A holds element i of sub-blocks 0..3. */
export const X_A: usize = 1024;
export const X_B: usize = X_A + 512;
/** Their weights, and w·x where a search wants it; same shape. */
export const W_A: usize = X_B + 512;
export const W_B: usize = W_A + 512;
export const WX_A: usize = W_B + 512;
export const WX_B: usize = WX_A + 512;
/** Codes as floats; same shape, for two octets (the sixteen sub-blocks of a super-block) and one for scales of scales. */
export const L_A: usize = WX_B + 512;
export const L_B: usize = L_A + 512;
export const L_SECOND: usize = L_A + 1024;
export const L_SCALES: usize = L_A + 2048;

/**
 * What searches leave for up to eight super-blocks of 16 sub-blocks: floats, [super-block][sub-block], and behind them eight
 * or sixteen more for the scales of scales. Plain encoders use the first super-block only.
 */
export const FIT_BLOCK: usize = 64;
export const FIT_OF_SCALES: usize = 512;
export const FIT_SCALE: usize = L_A + 3072;
/** The negated minimum. */
export const FIT_MIN: usize = FIT_SCALE + 576;
/** Codes of the accepted candidate are code(iscale·(x - low)): they are made again from these two when needed. */
export const FIT_ISCALE: usize = FIT_MIN + 576;
export const FIT_LOW: usize = FIT_ISCALE + 576;
/** Σ w of each sub-block. */
export const FIT_SUMW: usize = FIT_LOW + 576;
/** Codes of scale and minimum, a byte each: [super-block][sub-block], 16 bytes a super-block. */
export const SCALE_CODES: usize = FIT_SUMW + 576;
export const MIN_CODES: usize = SCALE_CODES + 128;
/** Scale of scales and of minima of each super-block. */
export const BLOCK_D: usize = MIN_CODES + 128;
export const BLOCK_DMIN: usize = BLOCK_D + 32;

/** State of a search, up to 32 vectors for each half. */
export const STATE_A: usize = BLOCK_DMIN + 32;
export const STATE_B: usize = STATE_A + 512;

/** Codes of one super-block, a byte each. */
export const CODES: usize = STATE_B + 512;
/** Sums of squares of four super-blocks. */
export const SIGMAS: usize = CODES + 256;

/** Four super-blocks in four lanes for their scale-of-scales search, up to 16 vectors each: values, weights, codes. */
export const QUAD_X: usize = SIGMAS + 16;
export const QUAD_W: usize = QUAD_X + 256;
export const QUAD_L: usize = QUAD_W + 256;

/** One unpacked K-type block: codes as signed bytes, 16-bit scales and minima, the two scales of scales. */
export const UNPACKED: usize = 16384;
export const UNPACKED_SCALES: usize = UNPACKED + 256;
export const UNPACKED_MINS: usize = UNPACKED_SCALES + 32;
export const UNPACKED_D: usize = UNPACKED_MINS + 32;
export const UNPACKED_DMIN: usize = UNPACKED_D + 4;

/** A run of unpacked 32-element blocks: codes as signed bytes, scales and minima as floats. */
export const CHUNK_CODES: usize = 17408;
export const CHUNK_D: usize = CHUNK_CODES + 2048;
export const CHUNK_M: usize = CHUNK_D + 256;

/** A run of decoded weights, and eight padded elements of weights and activations. */
export const DECODED: usize = 20480;
export const DECODED_ELEMENTS: i32 = 1024;
export const PADDED: usize = DECODED + 4096;

/** Four HQQ groups of 64, transposed. */
export const HQQ_GROUPS: usize = 28672;

/** Float sums of the activation rows that a product has under way; ends at 49152. */
export const LANE_SUMS: usize = 32768;

/** Of four rows: scales as 16-bit integers, sixteen a row (tile-k.ts) or eight; minima likewise; d and dmin as floats. */
export const QUAD_SCALES: usize = 49152;
export const QUAD_MINS: usize = QUAD_SCALES + 128;
export const QUAD_D: usize = QUAD_MINS + 128;
export const QUAD_DMIN: usize = QUAD_D + 16;
/** Written and never read. */
export const BARRIER: usize = QUAD_DMIN + 16;

/** Weights of a tile as 16-bit integers: four rows and one block of a K type, or eight rows and eight blocks of 32. */
export const TILE_CODES: usize = 53248;
/** Scales and minima of eight rows and eight blocks of 32, as floats. */
export const TILE_D: usize = TILE_CODES + 4096;
export const TILE_M: usize = TILE_D + 256;

/** First byte that no kernel touches by itself. */
export const HEAP_BASE: usize = (__heap_base + 63) & ~63;
