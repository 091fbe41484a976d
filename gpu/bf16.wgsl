// Unquantized weights, bfloat16.

fn value_at(element: u32) -> f32 {
  let word = words[element >> 1u];
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (element & 1u) == 1u));
}
