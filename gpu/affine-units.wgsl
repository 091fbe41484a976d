// Scale codes of units that have a scale and a minimum: Q2_K, Q4_K and Q5_K. The most that a code can be is `most`.

// Word 0 of the head, and the codes: scales from code 0 on, minima from code `mins` on.
fn settle_affine(unit: u32, most: i32, mins: u32) {
  if (weighted) {
    let d = settle_positive(unit, most, 0u, 0u);
    let dmin = settle_positive(unit, most, 1u, mins);
    head[0] = half_from(d) | (half_from(dmin) << 16u);
    return;
  }
  var largest = vec2f(0.0);
  for (var j = 0u; j < UNITS; j++) {
    let scale = unit_word(unit + j, 0u);
    let low = -unit_word(unit + j, 1u);
    wild = wild | (scale < 0.0);
    if (scale > largest.x) { largest.x = scale; }
    if (low > largest.y) { largest.y = low; }
  }
  var inverse = vec2f(0.0);
  if (largest.x > 0.0) { inverse.x = over(f32(most), largest.x); }
  if (largest.y > 0.0) { inverse.y = over(f32(most), largest.y); }
  for (var j = 0u; j < UNITS; j++) {
    set_code(j, scale_round(times(inverse.x, unit_word(unit + j, 0u)), most));
    set_code(mins + j, scale_round(times(inverse.y, -unit_word(unit + j, 1u)), most));
  }
  head[0] = half_from(over(largest.x, f32(most))) | (half_from(over(largest.y, f32(most))) << 16u);
}

fn scale_round(v: f32, most: i32) -> i32 {
  if (mistralrs) { return min(most, round_away_int(v)); }
  return min(most, nearest_int(v));
}

// The search over scales (word 0 of the units) or minima (word 1, negated). Sums of weights are word 2.
fn settle_positive(unit: u32, most: i32, word: u32, first: u32) -> f32 {
  for (var j = 0u; j < UNITS; j++) {
    let v = unit_word(unit + j, word);
    x[j] = select(v, -v, word == 1u);
    w[j] = unit_word(unit + j, 2u);
  }
  let scale = search_positive(most);
  for (var j = 0u; j < UNITS; j++) { set_code(first + j, i32(l[j])); }
  return scale;
}
