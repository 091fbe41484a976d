// HQQ4: 4-bit codes, two to a byte.

const BITS = 4;
