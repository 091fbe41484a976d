// Unquantized weights, binary32.

fn value_at(element: u32) -> f32 { return bitcast<f32>(words[element]); }
