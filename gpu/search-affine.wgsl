// Searches for codes above a minimum: x ≈ scale·code + low. Rules and sources: src/quants/search-affine.ts.

// The largest code, the first candidate, the distance between candidates, the last candidate's number; whether |error| is
// summed instead of its square.
struct Grid {
  largest: f32,
  first: f32,
  delta: f32,
  steps: i32,
  absolute: bool,
}

const IMPORTANCE_GRID = Grid(f32(N), -0.9, 0.05, 36, false);

// The code that v is rounded to, 0 … largest.
fn affine_code(v: f32, largest: f32) -> f32 {
  let inside = clamp(v, 0.0, largest);
  if (mistralrs) { return trunc(inside + 0.49999997); }
  return opaque(inside + 12582912.0) - 12582912.0;
}

// Fills l with the codes of a candidate.
fn code_affine(factor: f32, low: f32, largest: f32) {
  for (var i = 0u; i < SUB; i++) { l[i] = affine_code(product(factor, x[i] - low), largest); }
}

// Σ w·|e| or Σ w·e², e = ((scale·code) + low) - x.
fn affine_error(scale: f32, low: f32, absolute: bool) -> f32 {
  var error = 0.0;
  for (var i = 0u; i < SUB; i++) {
    let e = (product(scale, l[i]) + low) - x[i];
    var term = abs(e);
    if (!absolute) { term = product(e, e); }
    error += product(w[i], term);
  }
  return error;
}

// Smallest and largest value, the minimum at most 0. Of several zeros the first counts, with its sign.
fn ends_of_unit() -> vec2f {
  var low = bitcast<u32>(x[0]);
  var high = low;
  for (var i = 1u; i < SUB; i++) {
    let bits = bitcast<u32>(x[i]);
    low = select(low, bits, order_of(bits) < order_of(low));
    high = select(high, bits, order_of(bits) > order_of(high));
  }
  if (order_of(low) > 0) { low = 0u; }
  return vec2f(bitcast<f32>(low), bitcast<f32>(high));
}

// QKX. Without checks in its loops: with every non-zero x, scale and low at least 2^t apart from 0, sums of differences are
// multiples of 2^(t-23), and w·e² stays normal when t is large enough for the smallest weight.
fn search_affine(grid: Grid) -> vec2f {
  let ends = ends_of_unit();
  let bottom = ends.x;
  let high = ends.y;
  var low = bottom;
  if (order_of(bitcast<u32>(high)) <= order_of(bitcast<u32>(low))) {
    for (var i = 0u; i < SUB; i++) { l[i] = 0.0; }
    return vec2f(0.0, low);
  }
  var sumw = w[0];
  var sumx = product(w[0], x[0]);
  for (var i = 1u; i < SUB; i++) {
    sumw += w[i];
    sumx += product(w[i], x[i]);
  }
  let least = affine_least(grid.absolute);
  notice_sum(sumw);
  notice_sum(sumx);

  var factor = quotient(grid.largest, high - low);
  var scale = quotient(1.0, factor);
  notice_range(scale, least, MOST);
  var kept = vec2f(factor, low);
  code_affine(factor, low, grid.largest);
  var best = affine_error(scale, low, grid.absolute);
  for (var step = 0; step <= grid.steps; step++) {
    let start = opaque(grid.first + product(grid.delta, f32(step)));
    factor = quotient(start + grid.largest, high - low);
    notice_codes(factor, low, bottom, high);
    var suml = 0.0;
    var suml2 = 0.0;
    var sumxl = 0.0;
    for (var i = 0u; i < SUB; i++) {
      let code = affine_code(product(factor, x[i] - low), grid.largest);
      l[i] = code;
      let wl = product(w[i], code);
      suml += wl;
      if (mistralrs) { suml2 += product(w[i], product(code, code)); } else { suml2 += product(wl, code); }
      sumxl += product(wl, x[i]);
    }
    notice_sum(suml);
    notice_sum(suml2);
    notice_sum(sumxl);
    let determinant = product(sumw, suml2) - product(suml, suml);
    if (!(determinant > 0.0)) { continue; }
    var trial = quotient(product(sumw, sumxl) - product(sumx, suml), determinant);
    var trial_low = quotient(product(suml2, sumx) - product(suml, sumxl), determinant);
    if (trial_low > 0.0) {
      trial_low = 0.0;
      trial = quotient(sumxl, suml2);
    }
    notice_range(trial, least, MOST);
    notice_range(trial_low, least, MOST);
    let error = affine_error(trial, trial_low, grid.absolute);
    if (error < best) {
      kept = vec2f(factor, low);
      best = error;
      scale = trial;
      low = trial_low;
    }
  }
  code_affine(kept.x, kept.y, grid.largest);
  return vec2f(scale, low);
}

const MOST = 0x4f800000u; // 2^32

// The smallest magnitude that x, scale and low may have beside 0, checked for x. Products w·x and w·e² stay above 2^-126.
fn affine_least(absolute: bool) -> u32 {
  let weight = exponent_of(w_least);
  var exponent = (-79 - weight) >> 1u;
  if (absolute) { exponent = -102 - weight; }
  exponent = max(exponent, -60);
  wild = wild | (exponent > 20) | (w_most > 0x53800000u); // 2^40
  let least = u32(clamp(exponent + 127, 1, 254)) << 23u;
  wild = wild | (x_least < least - 1u) | (exponent_of(x_least) + weight < -100);
  return least;
}

// Sums of products: their own products stay normal, and the differences of those.
fn notice_sum(v: f32) { notice_range(v, 0x26800000u, 0x5d800000u); } // 2^-50, 2^60

// Codes before rounding must stay where nearest_int is a rounding.
fn notice_codes(factor: f32, low: f32, bottom: f32, high: f32) {
  let farthest = max(abs(bottom - low), abs(high - low));
  wild = wild | !(abs(factor) * farthest < 2097152.0);
}

// QKX1, candle: no weights, five alternations of codes, scale and minimum. Codes are not kept.
fn search_affine_old(largest: f32) -> vec2f {
  for (var i = 0u; i < SUB; i++) { l[i] = 0.0; }
  var bottom = bitcast<u32>(x[0]);
  var top = bottom;
  for (var i = 1u; i < SUB; i++) {
    let bits = bitcast<u32>(x[i]);
    bottom = select(bottom, bits, order_of(bits) < order_of(bottom));
    top = select(top, bits, order_of(bits) > order_of(top));
  }
  if (order_of(bottom) == order_of(top)) { return vec2f(0.0); }
  let high = bitcast<f32>(top);
  var low = bitcast<f32>(select(bottom, 0u, order_of(bottom) > 0));
  var factor = over(largest, minus(high, low));
  var scale = over(1.0, factor);
  for (var iteration = 0; iteration < 5; iteration++) {
    var sumlx = 0.0;
    var suml2 = 0;
    var changed = false;
    for (var i = 0u; i < SUB; i++) {
      let above = minus(x[i], low);
      let code = f32(clamp(round_away_int(times(factor, above)), 0, i32(largest)));
      changed = changed | (code != l[i]);
      l[i] = code;
      sumlx = plus(sumlx, times(above, code));
      suml2 += i32(code) * i32(code);
    }
    scale = over(sumlx, f32(suml2));
    var sum = 0.0;
    for (var i = 0u; i < SUB; i++) { sum = plus(sum, minus(x[i], times(scale, l[i]))); }
    low = over(sum, f32(SUB));
    if (low > 0.0) { low = 0.0; }
    factor = over(1.0, scale);
    if (!changed) { break; }
  }
  for (var i = 0u; i < SUB; i++) { l[i] = 0.0; }
  return vec2f(scale, low);
}
