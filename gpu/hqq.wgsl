// Half-quadratic quantization, groups of 64: x ≈ (code - zero)·scale. A thread takes one group. Types give BITS.
// `scratch`: the multipliers s of all groups, their zeros, and the errors of a round.

override contiguous: bool = false; // algorithm hqq: 64 consecutive elements; otherwise elements j, j + M, … of M groups

const GROUP = 64u;
const BLOCK_ELEMENTS = 64u;
const THREADS = 256u;
const LARGEST = f32((1 << BITS) - 1);

fn element_of(j: u32, r: u32) -> u32 {
  if (contiguous) { return GROUP * j + r; }
  return j + r * parameters.groups;
}

fn value_bits(element: u32) -> u32 { return values[element >> 2u][element & 3u]; }

@compute @workgroup_size(64)
fn begin(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let j = index_of(group, groups) * 64u + thread;
  if (j >= parameters.groups) { return; }
  wild = false;
  var low = value_bits(element_of(j, 0u));
  var high = low;
  for (var r = 0u; r < GROUP; r++) {
    let bits = value_bits(element_of(j, r));
    if ((bits & 0x7f800000u) == 0x7f800000u) { atomicMax(&report[0], ~element_of(j, r)); }
    notice_input(bits);
    if (order_of(bits) < order_of(low)) { low = bits; }
    if (order_of(bits) > order_of(high)) { high = bits; }
  }
  var s = 20000.0;
  if (order_of(low) != order_of(high)) {
    let range = minus(bitcast<f32>(high), bitcast<f32>(low));
    s = min(times(over(1.0, range), LARGEST), 20000.0);
  }
  scratch[j] = bitcast<u32>(s);
  scratch[parameters.groups + j] = bitcast<u32>(times(-bitcast<f32>(low), s));
  if (wild) { flag_block(j); }
}

fn code_of(w: f32, s: f32, z: f32) -> f32 {
  return clamp(round_away(plus(times(w, s), z)), 0.0, LARGEST);
}

// One round: moves every zero, and writes Σ |residual| before the move. Residuals that the shrinkage would not send to 0
// need a power in binary64: wild.
@compute @workgroup_size(64)
fn move_zeros(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let j = index_of(group, groups) * 64u + thread;
  if (j >= parameters.groups) { return; }
  wild = false;
  let s = bitcast<f32>(scratch[j]);
  let z = bitcast<f32>(scratch[parameters.groups + j]);
  var error = 0.0;
  var sum = 0.0;
  for (var r = 0u; r < GROUP; r++) {
    let w = bitcast<f32>(value_bits(element_of(j, r)));
    let q = code_of(w, s, z);
    let rest = minus(w, over(minus(q, z), s));
    wild = wild | !(abs(rest) <= 0.125);
    let y = minus(q, times(w, s));
    if (r == 0u) { sum = y; } else { sum = plus(sum, y); }
    error = plus(error, abs(rest));
  }
  scratch[parameters.groups + j] = bitcast<u32>(times(sum, 0.015625));
  scratch[2u * parameters.groups + j] = bitcast<u32>(error);
  if (wild) { flag_block(j); }
}

fn stored_code(j: u32, r: u32) -> u32 {
  let w = bitcast<f32>(value_bits(element_of(j, r)));
  return u32(code_of(w, bitcast<f32>(scratch[j]), bitcast<f32>(scratch[parameters.groups + j])));
}

// Four bytes a thread: the codes as (64, M) bytes, or as (32, M) bytes with members r (high nibble) and r + 32 (low).
@compute @workgroup_size(256)
fn finish(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let word = index_of(group, groups) * THREADS + thread;
  let rows = select(GROUP, GROUP / 2u, BITS == 4);
  if (4u * word >= rows * parameters.groups) { return; }
  var packed = 0u;
  for (var i = 0u; i < 4u; i++) {
    let byte = 4u * word + i;
    if (byte >= rows * parameters.groups) { break; }
    let r = byte / parameters.groups;
    let j = byte % parameters.groups;
    wild = false;
    var code = stored_code(j, r);
    if (BITS == 4) { code = (code << 4u) | stored_code(j, r + 32u); }
    packed |= code << (8u * i);
    if (wild) { flag_block(j); }
  }
  result[word] = packed;
}

// Decoding: `words` has the codes, then scales and zeros from word `codesAt` on.
fn decode_at(element: u32) -> f32 {
  var j = element % parameters.groups;
  var r = element / parameters.groups;
  if (contiguous) {
    j = element / GROUP;
    r = element % GROUP;
  }
  let row = select(r, r & 31u, BITS == 4);
  let byte = row * parameters.groups + j;
  var code = (words[byte >> 2u] >> (8u * (byte & 3u))) & 255u;
  if (BITS == 4) { code = select(code & 15u, code >> 4u, r < 32u); }
  let scale = words[parameters.codesAt + j];
  let zero = words[parameters.codesAt + parameters.groups + j];
  notice_input(scale);
  notice_input(zero);
  return times(minus(f32(code), bitcast<f32>(zero)), bitcast<f32>(scale));
}

// Elements first … first + count - 1 of the tensor.
@compute @workgroup_size(256)
fn dequantize(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = index_of(group, groups) * THREADS + thread;
  if (i >= parameters.count) { return; }
  wild = false;
  result[i] = bitcast<u32>(decode_at(parameters.first + i));
  if (wild) { flag_block(i / GROUP); }
}

fn value_at(element: u32) -> f32 { return decode_at(element); }
