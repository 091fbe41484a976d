// HQQ8: 8-bit codes.

const BITS = 8;
