// Rotary position embedding (Su et al. 2021) with the frequency scalings found in model configs.
//
//   RopeTable table = ops::make_rope_table({.head_dim = 64, .theta = 10000, .max_positions = 2048}, device);
//   ops::rope_in_place(q, table, {.positions = positions});          // q (B, T, H, D), any strides, D contiguous
#pragma once

#include <string>

#include <ondol/tensor/tensor.h>

namespace ondol {

/// type "default"; "linear" (positions divided by factor, Chen et al. 2023); "llama3" (Llama 3.1: frequencies of long
/// wave length divided by factor, the middle interpolated).
struct RopeConfig {
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // 0: head_dim
  double theta = 10000.0;
  std::string type = "default";
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_positions = 0;
  int64_t max_positions = 2048;
};

struct RopeTable {
  Tensor cos;  // (max_positions, rotary_dim / 2) f32
  Tensor sin;
  int64_t rotary_dim = 0;
};

}  // namespace ondol

namespace ondol::ops {

/// Frequencies are computed in double, angles are the product of a position and a frequency in f32 (Hugging Face
/// transformers). Throws UsageError on an unknown type or odd rotary_dim.
RopeTable make_rope_table(const RopeConfig& config, Device device);

struct RopeOptions {
  const Tensor* positions = nullptr;  // (B, T) i32; null: t + position_offset
  int64_t position_offset = 0;
  bool interleaved = false;  // false: pairs (i, i + rotary_dim/2) as in Hugging Face models
  bool inverse = false;      // the backward
};

/// x (B, T, H, D) with a contiguous last dimension. Throws when a position is not in the table (offsets; positions on
/// the host).
void rope_in_place(const Tensor& x, const RopeTable& table, const RopeOptions& options);
Tensor rope(const Tensor& x, const RopeTable& table, const RopeOptions& options);

}  // namespace ondol::ops
