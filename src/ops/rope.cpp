#include <ondol/ops/rope.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "ops/checks.h"
#include "ops/index_checks.h"

namespace ondol::ops {

namespace {

/// Angle per position for pair i: theta^(-2i / rotary_dim), scaled as the config says.
std::vector<double> inverse_frequencies(const RopeConfig& config, int64_t rotary_dim) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    double frequency = std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    if (config.type == "linear") {
      frequency /= config.factor;
    } else if (config.type == "llama3") {
      // Llama 3.1 (llama-models, apply_scaling): by the number of turns that a pair makes over the original context.
      const double turns = static_cast<double>(config.original_max_positions) * frequency / (2.0 * std::numbers::pi);
      const double blend = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
      if (turns < config.low_freq_factor) {
        frequency /= config.factor;
      } else if (turns <= config.high_freq_factor) {
        frequency = (1.0 - blend) * frequency / config.factor + blend * frequency;
      }
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

void check_config(const RopeConfig& config, int64_t rotary_dim) {
  if (config.type != "default" && config.type != "linear" && config.type != "llama3") {
    throw UsageError(concat("unknown rope type \"", config.type, "\""), "known: default, linear, llama3");
  }
  if (rotary_dim <= 0 || rotary_dim % 2 != 0 || rotary_dim > config.head_dim) {
    throw UsageError(
        concat("[rope] rotary_dim ", rotary_dim, " must be even and between 2 and head_dim ", config.head_dim));
  }
  if (!(config.theta > 0.0) || !(config.factor > 0.0) || config.max_positions < 0) {
    throw UsageError(concat("[rope] theta ", config.theta, " and factor ", config.factor,
                            " must be positive, max_positions ", config.max_positions, " not negative"));
  }
  if (config.type == "llama3" &&
      (config.original_max_positions <= 0 || !(config.high_freq_factor > config.low_freq_factor))) {
    throw UsageError("[rope] type llama3 needs original_max_positions and high_freq_factor > low_freq_factor");
  }
}

void check_rope(const Tensor& x, const RopeTable& table, const RopeOptions& options) {
  check_data("rope", "x", x);
  ONDOL_CHECK(x.ndim() == 4, "[rope] x has shape ", x.shape(), ": (B, T, H, D) is needed");
  ONDOL_CHECK(x.size(3) <= 1 || x.stride(3) == 1, "[rope] the last dimension of x ", x.shape(), " must be contiguous");
  check_dtype("rope", "the table", table.cos, DType::f32, x);
  ONDOL_CHECK(table.rotary_dim <= x.size(3), "[rope] the table rotates ", table.rotary_dim, " elements, x ", x.shape(),
              " has heads of ", x.size(3));
  const int64_t batch = x.size(0), length = x.size(1), limit = table.cos.size(0);
  if (options.positions != nullptr) {
    check_dtype("rope", "positions", *options.positions, DType::i32, x);
    check_shape("rope", "positions", *options.positions, {batch, length});
    check_contiguous("rope", "positions", *options.positions);
    check_range_on_host("rope", "position", *options.positions, limit);
  } else {
    ONDOL_CHECK(options.position_offset >= 0 && options.position_offset + length <= limit, "[rope] positions ",
                options.position_offset, " to ", options.position_offset + length - 1, " exceed the table of ", limit);
  }
}

/// out has the shape of x and a contiguous last dimension.
void run_rope(const Tensor& x, const Tensor& out, const RopeTable& table, const RopeOptions& options) {
  if (x.numel() == 0) return;
  RopeArgs args{};
  args.in = x.raw();
  args.out = out.raw();
  args.batch = x.size(0);
  args.length = x.size(1);
  args.heads = x.size(2);
  args.head_dim = x.size(3);
  args.rotary_dim = table.rotary_dim;
  args.in_stride_b = x.stride(0);
  args.in_stride_t = x.stride(1);
  args.in_stride_h = x.stride(2);
  args.out_stride_b = out.stride(0);
  args.out_stride_t = out.stride(1);
  args.out_stride_h = out.stride(2);
  args.cos = table.cos.data<float>();
  args.sin = table.sin.data<float>();
  args.num_positions = table.cos.size(0);
  args.positions = options.positions == nullptr ? nullptr : options.positions->data<int32_t>();
  args.position_offset = options.position_offset;
  args.interleaved = options.interleaved;
  args.inverse = options.inverse;
  run_kernel(&KernelTable::rope, x.device(), x.dtype(), args);
}

}  // namespace

RopeTable make_rope_table(const RopeConfig& config, Device device) {
  const int64_t rotary_dim = config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
  check_config(config, rotary_dim);
  const std::vector<double> frequencies = inverse_frequencies(config, rotary_dim);
  std::vector<float> cosines, sines;
  const size_t count = static_cast<size_t>(config.max_positions) * frequencies.size();
  cosines.reserve(count);
  sines.reserve(count);
  for (int64_t position = 0; position < config.max_positions; ++position) {
    for (const double frequency : frequencies) {
      // The product is rounded to f32, as in the implementations that models are trained with (transformers): at
      // position 10,000 the exact angle is up to 5e-4 away from it.
      const float angle = static_cast<float>(position) * static_cast<float>(frequency);
      cosines.push_back(static_cast<float>(std::cos(static_cast<double>(angle))));
      sines.push_back(static_cast<float>(std::sin(static_cast<double>(angle))));
    }
  }
  const Shape shape{config.max_positions, rotary_dim / 2};
  return {Tensor::from_vector(cosines, shape, device), Tensor::from_vector(sines, shape, device), rotary_dim};
}

void rope_in_place(const Tensor& x, const RopeTable& table, const RopeOptions& options) {
  check_rope(x, table, options);
  run_rope(x, x, table, options);
}

Tensor rope(const Tensor& x, const RopeTable& table, const RopeOptions& options) {
  check_rope(x, table, options);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  run_rope(x, out, table, options);
  return out;
}

}  // namespace ondol::ops
