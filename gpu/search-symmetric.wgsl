// Searches for codes around zero: x ≈ scale·(code - n). Rules and sources: src/quants/search-symmetric.ts.

// The value of largest magnitude with its sign, the first of several; 0 for a unit of zeros.
fn peak_of_unit() -> f32 {
  var most = 0u;
  var peak = 0.0;
  for (var i = 0u; i < SUB; i++) {
    let m = magnitude(x[i]);
    if (m > most) {
      most = m;
      peak = x[i];
    }
  }
  return peak;
}

fn weigh_by_squares() {
  for (var i = 0u; i < SUB; i++) { w[i] = times(x[i], x[i]); }
}

fn clear_codes() {
  for (var i = 0u; i < SUB; i++) { l[i] = 0.0; }
}

const EPSILON = 0x26901d7du; // 1e-15

// The signed code that v is rounded to, for |v| ≤ 2n.
fn symmetric_code(v: f32, n: f32) -> f32 {
  let inside = clamp(v, -n, n - 1.0);
  return opaque(inside + 12582912.0) - 12582912.0;
}

// Σ (w·x)·l and Σ (w·l)·l of the codes that `factor` gives. w·x·l has one sign in all terms, so nothing cancels.
fn fit_symmetric(factor: f32, n: f32) -> vec2f {
  var sumlx = 0.0;
  var suml2 = 0.0;
  for (var i = 0u; i < SUB; i++) {
    let code = symmetric_code(product(factor, x[i]), n);
    sumlx += product(product(w[i], x[i]), code);
    suml2 += product(product(w[i], code), code);
  }
  notice_range(sumlx, 0x20800000u, 0x5d800000u); // 2^-62, 2^60
  notice_range(suml2, 0x20800000u, 0x5d800000u);
  return vec2f(sumlx, suml2);
}

// QX: 19 scales around peak / -n, the one that explains most. l is filled with unsigned codes.
fn search_symmetric(n: f32) -> vec2f {
  let peak = peak_of_unit();
  if (magnitude(peak) < EPSILON) {
    clear_codes();
    return vec2f(0.0);
  }
  wild = wild | (exponent_of(x_least) + exponent_of(w_least) < -100) | (w_most > 0x53800000u);
  var kept = quotient(-n, peak);
  let first = fit_symmetric(kept, n);
  var scale = 0.0;
  if (first.y != 0.0) { scale = quotient(first.x, first.y); }
  var best = product(scale, first.x);
  notice_range(best, 0x0d800000u, 0x71800000u); // 2^-100, 2^100
  for (var step = -9; step <= 9; step++) {
    if (step == 0) { continue; }
    let factor = quotient(-opaque(n + product(0.1, f32(step))), peak);
    let fit = fit_symmetric(factor, n);
    if (fit.y > 0.0 && product(fit.x, fit.x) > product(best, fit.y)) {
      kept = factor;
      scale = quotient(fit.x, fit.y);
      best = product(scale, fit.x);
      notice_range(best, 0x0d800000u, 0x71800000u); // 2^-100, 2^100
    }
  }
  for (var i = 0u; i < SUB; i++) { l[i] = symmetric_code(product(kept, x[i]), n) + n; }
  return vec2f(scale, 0.0);
}

// ggml's or candle's nearest integer, clamped to -n … n - 1; everything is checked from here on.
fn round_symmetric(v: f32, n: f32, away: bool) -> f32 {
  let limit = i32(n);
  if (away) { return f32(clamp(round_away_int(v), -limit, limit - 1)); }
  return f32(clamp(nearest_int(v), -limit, limit - 1));
}

// (w·l)·l or w·(l·l).
fn squared(weight: f32, code: f32, late: bool) -> f32 {
  if (late) { return times(weight, times(code, code)); }
  return times(times(weight, code), code);
}

// Up to five sweeps, each trying for every element the code that is best given the others. l holds signed codes.
fn descend(n: f32, start: vec2f, away: bool, late: bool) -> vec2f {
  var sums = start;
  for (var sweep = 0; sweep < 5; sweep++) {
    var accepted = false;
    for (var i = 0u; i < SUB; i++) {
      let code = l[i];
      let wx = times(w[i], x[i]);
      var slx = minus(sums.x, times(wx, code));
      if (!(slx > 0.0)) { continue; }
      var sl2 = minus(sums.y, squared(w[i], code, late));
      let next = round_symmetric(over(times(x[i], sl2), slx), n, away);
      if (next == code) { continue; }
      slx = plus(slx, times(wx, next));
      sl2 = plus(sl2, squared(w[i], next, late));
      if (sl2 > 0.0 && times(times(slx, slx), sums.y) > times(times(sums.x, sums.x), sl2)) {
        l[i] = next;
        sums = vec2f(slx, sl2);
        accepted = true;
      }
    }
    if (!accepted) { break; }
  }
  return sums;
}

fn shift_codes(n: f32) {
  for (var i = 0u; i < SUB; i++) { l[i] += n; }
}

// Q3S, both lineages: Q3_K's search without importance; w holds squares.
fn search_three_bit() -> vec2f {
  let n = 4.0;
  let peak = peak_of_unit();
  if (magnitude(peak) == 0u || (!mistralrs && magnitude(peak) < EPSILON)) {
    clear_codes();
    return vec2f(0.0);
  }
  let factor = over(-n, peak);
  var sums = vec2f(0.0);
  for (var i = 0u; i < SUB; i++) {
    l[i] = round_symmetric(times(factor, x[i]), n, mistralrs);
    sums.x = plus(sums.x, times(times(w[i], x[i]), l[i]));
    sums.y = plus(sums.y, squared(w[i], l[i], mistralrs));
  }
  sums = descend(n, sums, mistralrs, mistralrs);
  shift_codes(n);
  if (!mistralrs && !(sums.y > 0.0)) { return vec2f(0.0); }
  return vec2f(over(sums.x, sums.y), 0.0);
}

// Old QX, candle: up to three scalings and a descent. Divisions are unguarded: what comes out as NaN is wild.
fn search_symmetric_old(n: f32) -> vec2f {
  let peak = peak_of_unit();
  if (magnitude(peak) == 0u) {
    clear_codes();
    return vec2f(0.0);
  }
  var factor = over(-n, peak);
  var sums = vec2f(0.0);
  for (var i = 0u; i < SUB; i++) {
    l[i] = round_symmetric(times(factor, x[i]), n, true);
    sums.x = plus(sums.x, times(times(w[i], x[i]), l[i]));
    sums.y = plus(sums.y, squared(w[i], l[i], false));
  }
  for (var round = 0; round < 3; round++) {
    let scale = over(sums.x, sums.y);
    let best = times(scale, sums.x);
    factor = over(1.0, scale);
    var trial = vec2f(0.0);
    var changed = false;
    for (var i = 0u; i < SUB; i++) {
      let code = round_symmetric(times(factor, x[i]), n, true);
      changed = changed | (code != l[i]);
      trial.x = plus(trial.x, times(times(w[i], x[i]), code));
      trial.y = plus(trial.y, squared(w[i], code, false));
    }
    if (!changed || trial.y == 0.0 || times(trial.x, trial.x) <= times(best, trial.y)) { break; }
    for (var i = 0u; i < SUB; i++) { l[i] = round_symmetric(times(factor, x[i]), n, true); }
    sums = trial;
  }
  sums = descend(n, sums, true, false);
  shift_codes(n);
  return vec2f(over(sums.x, sums.y), 0.0);
}
