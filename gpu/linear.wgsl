// Placed weights times prepared activations. A team takes one output; each of its threads takes every TEAM-th unit of 32
// elements. A type gives load_unit, from its planes. Tried on an H100 with Q4_K and Q8_0, 4096 × 14336: two or four outputs to a
// team, so that activations are read less often, 0.45 to 0.95 times as fast; a vector of 16 bytes to a thread instead of a
// unit, 0.95 times; a sum by subgroups, the same.

struct Unit {
  a: vec4u,     // the first 16 values, a signed byte each
  b: vec4u,     // the others
  scale: vec2f, // of each half
  low: vec2f,   // subtracted, of each half
}

@group(0) @binding(1) var<storage, read> activations: array<vec4u>; // codes, 16 to a vector, or binary32
@group(0) @binding(2) var<storage, read> vectors: array<vec4u>;     // the planes
@group(0) @binding(3) var<storage, read> sides: array<vec2f>;       // scale and low factor of 32 activations
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;    // rows × outputs

fn plane_word(at: u32) -> u32 { return vectors[at >> 2u][at & 3u]; }

// The binary16 number `byte` bytes into the weight.
fn plane_half(byte: u32) -> f32 { return from_half(plane_word(byte >> 2u) >> (8u * (byte & 2u))); }

fn dot16(a: vec4u, b: vec4u) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// A unit times the activations of a row.
fn unit_dot(unit: Unit, row: u32, u: u32) -> f32 {
  let at = row * (parameters.width / 16u) + 2u * u;
  let side = sides[row * (parameters.width / 32u) + u];
  let a = activations[at];
  let b = activations[at + 1u];
  let sa = dot16(unit.a, a);
  let sb = dot16(unit.b, b);
  if (LOWS == 2u) {
    let ones = vec4u(0x01010101u);
    let high = f32(sa) * unit.scale.x + f32(sb) * unit.scale.y;
    return side.x * (high - (f32(dot16(a, ones)) * unit.low.x + f32(dot16(b, ones)) * unit.low.y));
  }
  if (HALVED) { return side.x * (f32(sa) * unit.scale.x + f32(sb) * unit.scale.y); }
  let high = side.x * (f32(sa + sb) * unit.scale.x);
  if (LOWS == 1u) { return high - side.y * unit.low.x; }
  return high;
}

@compute @workgroup_size(128)
fn matvec(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let output = output_of(thread, index_of(group, groups));
  let units = parameters.width / 32u;
  var sum = 0.0;
  if (output < parameters.outputs) {
    for (var u = thread % TEAM; u < units; u += TEAM) { sum += unit_dot(load_unit(output * units + u), 0u, u); }
  }
  sum = sum_team(thread, sum);
  if (thread % TEAM == 0u && output < parameters.outputs) { sums[parameters.outAt + output] = sum; }
}

@compute @workgroup_size(128)
fn matmul(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let output = output_of(thread, index_of(group, groups));
  let first = group.z * MOST_ROWS;
  let rows = min(MOST_ROWS, parameters.rows - first);
  let units = parameters.width / 32u;
  var own: array<f32, MOST_ROWS>;
  if (output < parameters.outputs) {
    for (var u = thread % TEAM; u < units; u += TEAM) {
      let unit = load_unit(output * units + u);
      for (var r = 0u; r < rows; r++) { own[r] += unit_dot(unit, first + r, u); }
    }
  }
  put_sums(thread, &own, output, first, every_row(rows));
}

// As matmul, of the rows that chose this expert; the others are left as they are.
@compute @workgroup_size(128)
fn matmul_chosen(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let output = output_of(thread, index_of(group, groups));
  let first = group.z * MOST_ROWS;
  let rows = min(MOST_ROWS, parameters.rows - first);
  let units = parameters.width / 32u;
  var own: array<f32, MOST_ROWS>;
  let chosen = chosen_rows(first, rows);
  if (output < parameters.outputs && chosen > 0u) {
    for (var u = thread % TEAM; u < units; u += TEAM) {
      let unit = load_unit(output * units + u);
      for (var r = 0u; r < rows; r++) {
        if ((chosen & (1u << r)) != 0u) { own[r] += unit_dot(unit, (first + r) / parameters.share, u); }
      }
    }
  }
  put_sums(thread, &own, output, first, chosen);
}
