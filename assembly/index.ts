// Everything the module exports. See README.md for the calling convention.

export { HEAP_BASE } from "./memory";
export { f16_encode, f16_decode, bf16_encode, bf16_decode } from "./f16";
export {
  Q4_0_BLOCK_ELEMENTS,
  Q4_0_BLOCK_BYTES,
  q4_0_quantize_ggml,
  q4_0_quantize_mistralrs,
  q4_0_dequantize,
  q4_0_matmul,
  q4_0_matvec,
} from "./q4_0";
export {
  Q4_1_BLOCK_ELEMENTS,
  Q4_1_BLOCK_BYTES,
  q4_1_quantize_ggml,
  q4_1_quantize_mistralrs,
  q4_1_dequantize,
  q4_1_matmul,
  q4_1_matvec,
} from "./q4_1";
export {
  Q5_0_BLOCK_ELEMENTS,
  Q5_0_BLOCK_BYTES,
  q5_0_quantize_ggml,
  q5_0_quantize_mistralrs,
  q5_0_dequantize,
  q5_0_matmul,
  q5_0_matvec,
} from "./q5_0";
export {
  Q5_1_BLOCK_ELEMENTS,
  Q5_1_BLOCK_BYTES,
  q5_1_quantize_ggml,
  q5_1_quantize_mistralrs,
  q5_1_dequantize,
  q5_1_matmul,
  q5_1_matvec,
} from "./q5_1";
export {
  Q8_0_BLOCK_ELEMENTS,
  Q8_0_BLOCK_BYTES,
  q8_0_quantize_ggml,
  q8_0_quantize_mistralrs,
  q8_0_dequantize,
  q8_0_matmul,
} from "./q8_0";
export {
  Q8_1_BLOCK_ELEMENTS,
  Q8_1_BLOCK_BYTES,
  q8_1_quantize_ggml,
  q8_1_quantize_mistralrs,
  q8_1_dequantize,
  q8_1_matmul,
  q8_1_matvec,
} from "./q8_1";
export {
  Q8K_BLOCK_ELEMENTS,
  Q8K_BLOCK_BYTES,
  q8_k_quantize_ggml,
  q8_k_quantize_mistralrs,
  q8_k_dequantize,
} from "./q8_k";
export {
  Q4K_BLOCK_ELEMENTS,
  Q4K_BLOCK_BYTES,
  q4_k_quantize_ggml,
  q4_k_quantize_mistralrs,
  q4_k_dequantize,
  q4_k_matmul,
} from "./q4_k";
export {
  Q5K_BLOCK_ELEMENTS,
  Q5K_BLOCK_BYTES,
  q5_k_quantize_ggml,
  q5_k_quantize_mistralrs,
  q5_k_dequantize,
  q5_k_matmul,
  q5_k_matvec,
} from "./q5_k";
export {
  Q2K_BLOCK_ELEMENTS,
  Q2K_BLOCK_BYTES,
  q2_k_quantize_ggml,
  q2_k_quantize_mistralrs,
  q2_k_dequantize,
  q2_k_matmul,
  q2_k_matvec,
} from "./q2_k";
export {
  Q3K_BLOCK_ELEMENTS,
  Q3K_BLOCK_BYTES,
  q3_k_quantize_ggml,
  q3_k_quantize_mistralrs,
  q3_k_dequantize,
  q3_k_matmul,
  q3_k_matvec,
} from "./q3_k";
export {
  Q6K_BLOCK_ELEMENTS,
  Q6K_BLOCK_BYTES,
  q6_k_quantize_ggml,
  q6_k_quantize_mistralrs,
  q6_k_dequantize,
  q6_k_matmul,
  q6_k_matvec,
} from "./q6_k";
export { matmulQ8K as q8_k_matmul } from "./dot32";
export {
  HQQ4_BLOCK_ELEMENTS,
  HQQ4_BLOCK_BYTES,
  hqq4_quantize_mistralrs,
  hqq4_quantize_hqq,
  hqq4_dequantize_mistralrs,
  hqq4_dequantize_hqq,
  hqq4_matmul_mistralrs,
  hqq4_matmul_hqq,
} from "./hqq4";
export {
  HQQ8_BLOCK_ELEMENTS,
  HQQ8_BLOCK_BYTES,
  hqq8_quantize_mistralrs,
  hqq8_quantize_hqq,
  hqq8_dequantize_mistralrs,
  hqq8_dequantize_hqq,
  hqq8_matmul_mistralrs,
  hqq8_matmul_hqq,
} from "./hqq8";
export { hqq_begin, hqq_round, hqq_sum, hqq_finish } from "./hqq";
export {
  fp8_peak,
  fp8_scale_ocp,
  fp8_scale_mistralrs,
  fp8_encode_ocp,
  fp8_encode_mistralrs,
  fp8_dequantize,
  fp8_matmul,
} from "./fp8";
export { f32_matmul, f16_matmul, bf16_matmul } from "./dot-float";
export {
  rms_norm,
  layer_norm,
  rotate_heads,
  rotate_neighbours,
  softcap_rows,
  attend,
} from "./forward";
export { gate_rows, activate_rows, add_rows, add_scaled_rows, scale_rows, combine_rows } from "./elements";
export { first_non_finite } from "./finite";
export { logits_largest, logits_weights } from "./sample";
export { q8_0_pack, q8_0_unpack, q8_0_matvec } from "./q8_0_quads";
export { q4_k_pack, q4_k_unpack, q4_k_matvec } from "./q4_k_quads";
export {
  q8_0_widen,
  q8_1_widen,
  q8_k_widen,
  q8_0_widen_four,
  q8_1_widen_four,
  q8_k_widen_four,
  q8_0_widen_pairs,
  q8_k_widen_nibbles,
} from "./wide";
