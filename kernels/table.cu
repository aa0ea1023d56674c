// The rows of the CUDA table. A row without a kernel stays empty; using it throws `[row] no cuda kernel for dtype`.
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {

void fill_cuda_table(KernelTable& table) {
  add_memory_rows(table);
  add_elementwise_rows(table);
  add_reduce_rows(table);
  add_softmax_rows(table);
  add_loss_rows(table);
  add_embedding_rows(table);
  add_distillation_rows(table);
  add_replace_tokens_rows(table);
  add_norm_rows(table);
  add_norm_backward_rows(table);
  add_rope_rows(table);
  add_glu_rows(table);
  add_dropout_rows(table);
  add_kv_cache_rows(table);
  add_index_rows(table);
  add_sampling_rows(table);
  add_optimizer_rows(table);
  add_tensor_optimizer_rows(table);
  add_gemm_rows(table);
  add_quantized_rows(table);
  add_attention_rows(table);
  add_attention_backward_rows(table);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
