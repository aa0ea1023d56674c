// The rows of the CPU table, compiled once per instruction set.
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {

void fill_table(KernelTable& table) {
  add_memory_rows(table);
  add_gemm_rows(table);
  add_quantized_rows(table);
  add_attention_rows(table);
  add_attention_backward_rows(table);
  add_kv_cache_rows(table);
  add_binary_rows(table);
  add_unary_rows(table);
  add_glu_rows(table);
  add_reduce_rows(table);
  add_softmax_rows(table);
  add_cross_entropy_rows(table);
  add_distillation_rows(table);
  add_replace_tokens_rows(table);
  add_norm_rows(table);
  add_embedding_rows(table);
  add_rope_rows(table);
  add_dropout_rows(table);
  add_sampling_rows(table);
  add_optimizer_rows(table);
  add_tensor_optimizer_rows(table);
}

}  // namespace ondol::cpu::ONDOL_ISA
