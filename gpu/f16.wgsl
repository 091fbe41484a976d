// Unquantized weights, binary16.

fn value_at(element: u32) -> f32 { return from_half(words[element >> 1u] >> (16u * (element & 1u))); }
