// One function for each kernel file: it enters the file's rows into the table.
#pragma once

#include "backend/kernel_table.h"

namespace ondol::ONDOL_CUDA_SPACE {

void add_memory_rows(KernelTable& table);            // memory.cu: fill, copy
void add_elementwise_rows(KernelTable& table);       // elementwise.cu: binary, unary, unary_backward
void add_reduce_rows(KernelTable& table);            // reduce.cu: reduce
void add_softmax_rows(KernelTable& table);           // softmax.cu: softmax, softmax_backward
void add_loss_rows(KernelTable& table);              // loss.cu: cross_entropy, cross_entropy_backward
void add_distillation_rows(KernelTable& table);      // distillation.cu: distillation
void add_replace_tokens_rows(KernelTable& table);    // replace_tokens.cu: replace_tokens
void add_embedding_rows(KernelTable& table);         // embedding.cu: embedding, embedding_backward
void add_norm_rows(KernelTable& table);              // norm.cu: rms_norm, layer_norm
void add_norm_backward_rows(KernelTable& table);     // norm_backward.cu: rms_norm_backward, layer_norm_backward
void add_rope_rows(KernelTable& table);              // rope.cu: rope
void add_glu_rows(KernelTable& table);               // glu.cu: glu, glu_backward
void add_dropout_rows(KernelTable& table);           // dropout.cu: dropout
void add_kv_cache_rows(KernelTable& table);          // kv_cache.cu: cache_append
void add_index_rows(KernelTable& table);             // index.cu: gather, scatter_add, argmax
void add_sampling_rows(KernelTable& table);          // sampling.cu: sample
void add_optimizer_rows(KernelTable& table);         // optimizer.cu: norm, clip_gradient, adamw, sgd, lion, ema
void add_tensor_optimizer_rows(KernelTable& table);  // tensor_optimizers.cu: lamb, adafactor
void add_gemm_rows(KernelTable& table);              // gemm.cu: gemm
void add_quantized_rows(KernelTable& table);         // quantized.cu: quant_gemm, dequantize
void add_attention_rows(KernelTable& table);         // attention_forward.cu: attention
void add_attention_backward_rows(KernelTable& table);  // attention_backward.cu: attention_backward

/// Every row that has a CUDA kernel (table.cu).
void fill_cuda_table(KernelTable& table);

}  // namespace ondol::ONDOL_CUDA_SPACE
