// One function for each kernel file: it enters the file's rows into the table.
#pragma once

#include "backend/cpu/isa.h"

namespace ondol::cpu::ONDOL_ISA {

void add_gemm_rows(KernelTable& table);                // gemm.cpp
void add_attention_rows(KernelTable& table);           // attention_forward.cpp
void add_attention_backward_rows(KernelTable& table);  // attention_backward.cpp
void add_kv_cache_rows(KernelTable& table);            // kv_cache.cpp: cache_append
void add_quantized_rows(KernelTable& table);           // quantized.cpp: quant_gemm, dequantize
void add_memory_rows(KernelTable& table);              // memory.cpp: fill, copy
void add_binary_rows(KernelTable& table);              // binary.cpp
void add_unary_rows(KernelTable& table);               // unary.cpp: unary and its backward
void add_glu_rows(KernelTable& table);                 // glu.cpp: glu and its backward
void add_reduce_rows(KernelTable& table);              // reduce.cpp: reduce, argmax, block_squares, sum_all
void add_softmax_rows(KernelTable& table);             // softmax.cpp: softmax and its backward
void add_cross_entropy_rows(KernelTable& table);       // cross_entropy.cpp: cross_entropy and its backward
void add_distillation_rows(KernelTable& table);        // distillation.cpp
void add_replace_tokens_rows(KernelTable& table);      // replace_tokens.cpp
void add_norm_rows(KernelTable& table);                // norm.cpp: rms_norm, layer_norm and their backwards
void add_embedding_rows(KernelTable& table);           // embedding.cpp: embedding and its backward, gather, scatter_add
void add_rope_rows(KernelTable& table);                // rope.cpp
void add_dropout_rows(KernelTable& table);             // dropout.cpp
void add_sampling_rows(KernelTable& table);            // sampling.cpp: sample
void add_optimizer_rows(KernelTable& table);           // optimizer.cpp: adamw, sgd, lion, ema
void add_tensor_optimizer_rows(KernelTable& table);    // tensor_optimizers.cpp: lamb, adafactor

}  // namespace ondol::cpu::ONDOL_ISA
