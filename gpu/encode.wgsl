// What every encoder has: values in, blocks out, and a report.

override mistralrs: bool = false; // the lineage: mistral.rs through candle instead of ggml
override weighted: bool = false;  // there is an importance vector

@group(0) @binding(1) var<storage, read> values: array<vec4u>; // binary32 patterns, row-major
@group(0) @binding(2) var<storage, read> words: array<u32>;    // importance, one binary32 pattern per column
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<u32>;

// Word 0: the complement of the first non-finite element of the piece, 0 when there is none. Word 1: not 0 when blocks
// are flagged. Then one bit per block.
@group(0) @binding(5) var<storage, read_write> report: array<atomic<u32>>;

const REPORT_HEAD = 2u;

fn flag_block(block: u32) {
  atomicOr(&report[1], 1u);
  atomicOr(&report[REPORT_HEAD + (block >> 5u)], 1u << (block & 31u));
}

// One test of all four first: 6 % faster encoders on an H100.
fn report_non_finite(x: vec4u, element: u32) {
  if (!any((x & vec4u(0x7f800000u)) == vec4u(0x7f800000u))) { return; }
  for (var i = 0u; i < 4u; i++) {
    if ((x[i] & 0x7f800000u) == 0x7f800000u) {
      atomicMax(&report[0], ~(element + i));
      return;
    }
  }
}

fn importance_of(element: u32) -> f32 { return bitcast<f32>(words[element % parameters.width]); }

// A dispatch has two dimensions, for want of one that is long enough.
fn index_of(group: vec3u, groups: vec3u) -> u32 { return group.x + group.y * groups.x; }
