// FP8: E4M3 codes with one scale per tensor; `mistralrs` rounds through bfloat16. Four elements a thread. Elements are
// flagged in runs of RUN.

const BLOCK_ELEMENTS = 32u;
const THREADS = 256u;

var<workgroup> peaks: array<u32, THREADS>;

// A number rounded to bfloat16, as a bit pattern of binary32.
fn through_bfloat(bits: u32) -> u32 { return (bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u; }

const PEAK_QUADS = 8u; // of a thread

// The largest magnitude of the piece, in word 1 of the report.
@compute @workgroup_size(256)
fn find_peak(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  var peak = 0u;
  let first = index_of(group, groups) * THREADS * PEAK_QUADS + thread;
  for (var k = 0u; k < PEAK_QUADS; k++) {
    let quad = first + k * THREADS;
    if (4u * quad >= parameters.count) { break; }
    let x = values[quad];
    for (var i = 0u; i < 4u; i++) {
      if (4u * quad + i >= parameters.count) { break; }
      var m = x[i] & 0x7fffffffu;
      if (m >= 0x7f800000u) { atomicMax(&report[0], ~(4u * quad + i)); }
      if (mistralrs) { m = through_bfloat(m); }
      peak = max(peak, m);
    }
  }
  peaks[thread] = peak;
  workgroupBarrier();
  if (thread == 0u) {
    for (var i = 1u; i < THREADS; i++) { peak = max(peak, peaks[i]); }
    atomicMax(&report[1], peak);
  }
}

// The nearest code to a magnitude, ties to the even one.
fn e4m3_from(m: u32) -> u32 {
  if (m >= 0x43e00000u) { return 0x7eu; } // 448
  let exponent = m >> 23u;
  if (exponent < 117u) { return 0u; } // below 2^-10
  let small = exponent < 121u; // below 2^-6 steps are 2^-9
  let shift = select(20u, 141u - exponent, small);
  let significand = select(m - 0x3c000000u, (m & 0x7fffffu) | 0x800000u, small);
  let kept = significand >> shift;
  let cut = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + select(0u, 1u, (cut > half) | ((cut == half) & ((kept & 1u) == 1u)));
}

// `factor` is the scale that values are divided by (ocp) or multiplied by (mistralrs).
@compute @workgroup_size(256)
fn quantize(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let quad = index_of(group, groups) * THREADS + thread;
  if (4u * quad >= parameters.count) { return; }
  let x = values[quad];
  let factor = bitcast<f32>(parameters.factor);
  wild = false;
  var packed = 0u;
  for (var i = 0u; i < 4u; i++) {
    var m = x[i] & 0x7fffffffu;
    if (mistralrs) {
      m = through_bfloat(bitcast<u32>(product(bitcast<f32>(through_bfloat(m)), factor)) & 0x7fffffffu);
    } else {
      // What is too small for the division is too small for a code, by the range of scales that come here.
      m = bitcast<u32>(quotient(bitcast<f32>(select(m, 0u, m < 0x20800000u)), factor));
    }
    packed |= (e4m3_from(m) | ((x[i] >> 24u) & 0x80u)) << (8u * i);
  }
  result[quad] = packed;
  if (wild) { flag_block(quad / 8u); }
}

fn from_e4m3(code: u32) -> f32 {
  let exponent = (code >> 3u) & 15u;
  let fraction = code & 7u;
  var m = bitcast<u32>(f32(i32(fraction)) * 0.001953125); // 2^-9
  if (exponent > 0u) { m = ((exponent + 120u) << 23u) | (fraction << 20u); }
  if ((code & 0x7fu) == 0x7fu) { m = 0x7fc00000u; }
  return bitcast<f32>(m | ((code & 0x80u) << 24u));
}

@compute @workgroup_size(256)
fn dequantize(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let quad = index_of(group, groups) * THREADS + thread;
  if (4u * quad >= parameters.count) { return; }
  let packed = words[quad];
  for (var i = 0u; i < 4u; i++) {
    let code = (packed >> (8u * i)) & 255u;
    var bits = bitcast<u32>(product(from_e4m3(code), bitcast<f32>(parameters.factor)));
    if ((code & 0x7fu) == 0x7fu) { bits = 0x7fc00000u; }
    result[4u * quad + i] = bits;
  }
}

fn value_at(element: u32) -> f32 {
  return from_e4m3((words[element >> 2u] >> (8u * (element & 3u))) & 255u) * bitcast<f32>(parameters.factor);
}
