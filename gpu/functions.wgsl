// Elementary functions of running models, by the formulas of src/math.ts: the adapters' own differ in accuracy.

fn exp_of(x: f32) -> f32 {
  if (x > 88.72283) { return bitcast<f32>(0x7f800000u + parameters.zero); }
  if (x < -87.33654) { return 0.0; }
  let k = round(x * 1.4426950408889634);
  let r = (x - k * 0.693359375) - k * -0.00021219444005469057;
  var p = 0.00019841270 * r + 0.0013888889;
  p = p * r + 0.0083333333;
  p = p * r + 0.041666667;
  p = p * r + 0.16666667;
  p = p * r + 0.5;
  let y = (p * (r * r) + r) + 1.0;
  let half = i32(k) >> 1u;
  return (y * bitcast<f32>((half + 127) << 23u)) * bitcast<f32>((i32(k) - half + 127) << 23u);
}

fn tanh_of(x: f32) -> f32 {
  let size = abs(x);
  if (size < 0.25) {
    let z = x * x;
    var p = 0.021869488 * z - 0.053968254;
    p = p * z + 0.13333333;
    p = p * z - 0.33333333;
    return x + x * (z * p);
  }
  let t = exp_of(-2.0 * size);
  let y = (1.0 - t) / (1.0 + t);
  return select(y, -y, x < 0.0);
}

fn erf_of(x: f32) -> f32 {
  let size = abs(x);
  let z = x * x;
  if (size < 0.5) {
    var p = -0.00075757576 * z + 0.0046296296;
    p = p * z - 0.023809524;
    p = p * z + 0.1;
    p = p * z - 0.33333333;
    return 1.1283791670955126 * (x + x * (z * p));
  }
  let t = 1.0 / (1.0 + 0.3275911 * size);
  var p = 1.061405429 * t - 1.453152027;
  p = p * t + 1.421413741;
  p = p * t - 0.284496736;
  p = p * t + 0.254829592;
  let y = 1.0 - (p * t) * exp_of(-z);
  return select(y, -y, x < 0.0);
}

fn sigmoid_of(x: f32) -> f32 { return 1.0 / (1.0 + exp_of(-x)); }

// In the order of ACTIVATIONS in src/backends/webgpu-ops.ts.
fn activate_one(kind: u32, x: f32) -> f32 {
  switch (kind) {
    case 0u: { return sigmoid_of(x); }
    case 1u: { return x / (1.0 + exp_of(-x)); }
    case 2u: { return (0.5 * x) * (1.0 + tanh_of(0.7978845608028654 * (x + 0.044715 * ((x * x) * x)))); }
    default: { return (0.5 * x) * (1.0 + erf_of(x * 0.70710678)); }
  }
}
