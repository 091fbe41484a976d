// What kernels of types are told.

struct Parameters {
  zero: u32,      // 0, and no compiler knows it
  count: u32,     // elements of this piece
  width: u32,     // elements of a row
  runLength: u32, // elements of a run whose squares are summed
  codesAt: u32,   // words of `scratch` before the codes, four to a word
  headsAt: u32,   // before the heads, HEAD_WORDS to a block
  runsAt: u32,    // before the sums of squares
  groups: u32,    // HQQ: groups of the whole tensor
  first: u32,     // first element of this piece
  factor: u32,    // a binary32 number that the kernel is told
  blocks: u32,    // of a whole weight
  outputs: u32,
  rows: u32,
  outAt: u32,     // running models: words before the results
  xAt: u32,       // before the activations
  chosenAt: u32,  // before the numbers of chosen experts, one for every row
  expert: u32,    // which one this weight is
  share: u32,     // rows that have one row of activations
  gain: u32,      // a binary32 number that rows of a table are multiplied by
  spare0: u32,
  spare1: u32,
  spare2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
