// The searches: a thread takes one unit (16 or 32 elements), so that every sum keeps its order. A type gives SUB (the
// elements of a unit), search_unit, and how a unit's weights are made.

const UNIT_WORDS = 4u; // scale, low, sum of weights, unused

var<private> x: array<f32, SUB>;
var<private> w: array<f32, SUB>;
var<private> l: array<f32, SUB>; // codes as numbers

// Magnitudes among x and among w: smallest that is not 0, less 1, and largest.
var<private> x_least: u32;
var<private> x_most: u32;
var<private> w_least: u32;
var<private> w_most: u32;

@compute @workgroup_size(64)
fn search(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let unit = index_of(group, groups) * 64u + thread;
  if (unit >= parameters.count / SUB) { return; }
  wild = false;
  take_unit(unit);
  weigh_unit(unit * SUB);
  measure_weights();
  let fit = search_unit();
  let at = UNIT_WORDS * unit;
  scratch[at] = bitcast<u32>(fit.x);
  scratch[at + 1u] = bitcast<u32>(fit.y);
  for (var q = 0u; q < SUB / 4u; q++) {
    let four = vec4u(u32(l[4u * q]), u32(l[4u * q + 1u]), u32(l[4u * q + 2u]), u32(l[4u * q + 3u]));
    scratch[parameters.codesAt + unit * (SUB / 4u) + q] = pack4xU8(four);
  }
  if (wild) { flag_block(unit * SUB / BLOCK_ELEMENTS); }
}

fn take_unit(unit: u32) {
  x_least = 0xffffffffu;
  x_most = 0u;
  for (var q = 0u; q < SUB / 4u; q++) {
    let four = values[unit * (SUB / 4u) + q];
    report_non_finite(four, unit * SUB + 4u * q);
    for (var i = 0u; i < 4u; i++) {
      let m = four[i] & 0x7fffffffu;
      x_least = min(x_least, m - 1u);
      x_most = max(x_most, m);
      x[4u * q + i] = bitcast<f32>(four[i]);
    }
  }
  // Within 2^-100 … 2^24 no square of a large value overflows; searches ask for more.
  wild = wild | (x_least < TAME_LEAST) | (x_most > 0x4b800000u);
}

fn measure_weights() {
  w_least = 0xffffffffu;
  w_most = 0u;
  for (var i = 0u; i < SUB; i++) {
    let m = magnitude(w[i]);
    w_least = min(w_least, m - 1u);
    w_most = max(w_most, m);
  }
}

// importance · sqrt(sigma2 + x²), and the sum of these weights; `sigma2` is the mean square times `factor`.
fn weigh_by_importance(first: u32, factor: f32) {
  let run = first / parameters.runLength;
  let squares = bitcast<f32>(scratch[parameters.runsAt + run]);
  let sigma2 = over(times(factor, squares), f32(parameters.runLength));
  var sum = 0.0;
  for (var i = 0u; i < SUB; i++) {
    let own = importance_of(first + i);
    notice_input(bitcast<u32>(own));
    w[i] = times(own, root(plus(sigma2, times(x[i], x[i]))));
    sum = plus(sum, w[i]);
  }
  scratch[UNIT_WORDS * (first / SUB) + 2u] = bitcast<u32>(sum);
}

// Σ x² of every run of `runLength` elements, one accumulator. A wild sum flags the blocks of its run.
@compute @workgroup_size(64)
fn sum_squares(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let run = index_of(group, groups) * 64u + thread;
  if (run >= parameters.count / parameters.runLength) { return; }
  wild = false;
  var sum = 0.0;
  let first = run * parameters.runLength;
  for (var i = 0u; i < parameters.runLength; i += 4u) {
    let four = values[(first + i) / 4u];
    for (var k = 0u; k < 4u; k++) {
      notice_input(four[k]);
      let v = bitcast<f32>(four[k]);
      sum = plus(sum, times(v, v));
    }
  }
  scratch[parameters.runsAt + run] = bitcast<u32>(sum);
  if (wild) {
    for (var i = 0u; i < parameters.runLength; i += BLOCK_ELEMENTS) { flag_block((first + i) / BLOCK_ELEMENTS); }
  }
}

// The exponent of a magnitude that was measured (less 1, all ones for none).
fn exponent_of(least: u32) -> i32 { return select(i32((least + 1u) >> 23u) - 127, 0, least == 0xffffffffu); }
