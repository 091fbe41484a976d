// Codes for non-negative numbers under weights: the scale of a block's scales and minima under importance. Rules and
// sources: src/quants/search-affine.ts. Works on the first UNITS of x and w and leaves codes in l; all of it checked.

fn positive_byte(v: f32) -> i32 {
  if (mistralrs) { return round_away_int(v) & 255; }
  let code = nearest_int(v);
  wild = wild | (code < 0);
  return code;
}

fn positive_error(scale: f32, factor: f32, most: i32) -> f32 {
  var error = 0.0;
  for (var i = 0u; i < UNITS; i++) {
    let code = f32(min(most, positive_byte(times(factor, x[i]))));
    let e = minus(x[i], times(scale, code));
    error = plus(error, times(times(w[i], e), e));
  }
  return error;
}

fn search_positive(most: i32) -> f32 {
  var high = 0.0;
  for (var i = 0u; i < UNITS; i++) {
    wild = wild | (x[i] < 0.0);
    if (!(high > x[i])) { high = x[i]; }
    l[i] = 0.0;
  }
  if (magnitude(high) == 0u || (!mistralrs && magnitude(high) < EPSILON)) { return 0.0; }
  var factor = over(f32(most), high);
  // The first pass does not clamp; its codes reach `most` and no more.
  var best = positive_error(over(1.0, factor), factor, 255);
  for (var step = -4; step <= 4; step++) {
    if (step == 0) { continue; }
    let trial = over(plus(times(0.1, f32(step)), f32(most)), high);
    let error = positive_error(over(1.0, trial), trial, most);
    if (error < best) {
      best = error;
      factor = trial;
    }
  }
  var sums = vec2f(0.0);
  for (var i = 0u; i < UNITS; i++) {
    let v = times(factor, x[i]);
    var code = 0;
    if (mistralrs) { code = min(most, clamp(round_away_int(v), 0, 255)); } else { code = min(most, positive_byte(v)); }
    l[i] = f32(code);
    sums.x = plus(sums.x, times(times(w[i], x[i]), l[i]));
    sums.y = plus(sums.y, squared(w[i], l[i], mistralrs));
  }
  sums = descend_positive(most, sums);
  if (!mistralrs && !(sums.y > 0.0)) { return 0.0; }
  return over(sums.x, sums.y);
}

fn descend_positive(most: i32, start: vec2f) -> vec2f {
  var sums = start;
  for (var sweep = 0; sweep < 5; sweep++) {
    var accepted = false;
    for (var i = 0u; i < UNITS; i++) {
      let code = l[i];
      let wx = times(w[i], x[i]);
      var slx = minus(sums.x, times(wx, code));
      var sl2 = minus(sums.y, squared(w[i], code, mistralrs));
      if (!((slx > 0.0) & (sl2 > 0.0))) { continue; }
      let next = f32(min(most, positive_byte(over(times(x[i], sl2), slx))));
      if (next == code) { continue; }
      slx = plus(slx, times(wx, next));
      sl2 = plus(sl2, squared(w[i], next, mistralrs));
      if (times(times(slx, slx), sums.y) > times(times(sums.x, sums.x), sl2)) {
        l[i] = next;
        sums = vec2f(slx, sl2);
        accepted = true;
      }
    }
    if (!accepted) { break; }
  }
  return sums;
}
