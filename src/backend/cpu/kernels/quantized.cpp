// quant_gemm, dequantize: weights in blocks of 32 (base/quantized_blocks.h). The product multiplies the integers of a
// block with f32 activations and adds scale * sum; a row of c is the same whatever other rows there are.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/gemm_epilogue.h"
#include "backend/cpu/kernels/quant_lanes.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kMaxRows = 8;        // rows of a that share one pass over the weights
constexpr int64_t kTileCols = 32;     // columns finished at once
constexpr int64_t kTaskBytes = 8192;  // of weights: what is worth a thread

template <class Block>
constexpr bool kHasMinimum = false;
template <>
constexpr bool kHasMinimum<BlockQ4_1> = true;

/// Rows of a as f32: element l of row r at values[r * stride + l], the sum of its block b at sums[r * blocks + b].
struct Activations {
  const float* values;
  int64_t stride;
  const float* sums;
  int64_t blocks;
};

/// The halves of kLanes blocks, collected one group of blocks ahead: what was just written in pieces cannot be read as
/// one vector without waiting.
template <class Block>
struct Halves {
  alignas(32) float16 scale[kLanes] = {};
  alignas(32) float16 minimum[kLanes] = {};

  void collect(const Block* block, int64_t count) {
    for (int64_t i = 0; i < kLanes; ++i) scale[i] = i < count ? block[i].scale : float16{};
    if constexpr (kHasMinimum<Block>) {
      for (int64_t i = 0; i < kLanes; ++i) minimum[i] = i < count ? block[i].minimum : float16{};
    }
  }
};

/// out[r * kTileCols] = the product of one row of weights with kRows rows of activations.
template <class Block, int kRows>
void multiply_row(const Block* weights, const Activations& x, float* out) {
  Floats even[kRows], odd[kRows], low[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = low[r] = splat(0.0f);
  const auto add_block = [&](int64_t b, float scale, Floats(&sum)[kRows]) {
    Floats integers[kBlockVectors];
    block_integers(weights[b], integers);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float* values = x.values + r * x.stride + b * kQuantBlock;
      Floats product = integers[0] * load(values);
#pragma GCC unroll 8
      for (int v = 1; v < kBlockVectors; ++v) product = fma(integers[v], load(values + v * kLanes), product);
      sum[r] = fma(product, splat(scale), sum[r]);
    }
  };
  Halves<Block> halves[2];
  halves[0].collect(weights, smaller(kLanes, x.blocks));
  for (int64_t first = 0, group = 0; first < x.blocks; first += kLanes, group ^= 1) {
    const int64_t count = smaller(kLanes, x.blocks - first), next = first + kLanes;
    if (next < x.blocks) halves[group ^ 1].collect(weights + next, smaller(kLanes, x.blocks - next));
    alignas(64) float scale[kLanes];
    store(scale, load_halves(halves[group].scale));
    if constexpr (kHasMinimum<Block>) {
      const Floats minimum = load_halves(halves[group].minimum);
      for (int r = 0; r < kRows; ++r) low[r] = fma(minimum, load_n(x.sums + r * x.blocks + first, count), low[r]);
    }
    int64_t b = 0;
    for (; b + 2 <= count; b += 2) {
      add_block(first + b, scale[b], even);
      add_block(first + b + 1, scale[b + 1], odd);
    }
    if (b < count) add_block(first + b, scale[b], even);
  }
  for (int r = 0; r < kRows; ++r) {
    Floats total = even[r] + odd[r];
    if constexpr (kHasMinimum<Block>) total = total + low[r];
    out[r * kTileCols] = reduce_sum(total);
  }
}

template <class Block, class T, int kRows>
void multiply(const GemmArgs& args, int64_t row, const Activations& x) {
  const auto* weights = static_cast<const Block*>(args.b);
  const int64_t row_bytes = x.blocks * static_cast<int64_t>(sizeof(Block));
  const int64_t grain = round_up(kTaskBytes / (row_bytes + 1) + 1, kTileCols);
  parallel_for(args.n, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float tile[kRows * kTileCols];
    for (int64_t col = begin; col < end; col += kTileCols) {
      const int64_t cols = smaller(kTileCols, end - col);
      for (int64_t j = 0; j < cols; ++j) multiply_row<Block, kRows>(weights + (col + j) * x.blocks, x, tile + j);
      finish_block<T>(args, 0, row, col, kRows, cols, tile, kTileCols);
    }
  });
}

/// `rows` rows of a from `row` on, as f32, with the sums of their blocks when they are needed.
template <class Block, class T>
Activations activations(const GemmArgs& args, int64_t row, int64_t rows) {
  const T* a = static_cast<const T*>(args.a) + row * args.lda;
  const int64_t blocks = args.k / kQuantBlock;
  const int64_t copied = sizeof(T) == sizeof(float) ? 0 : rows * args.k, sums = kHasMinimum<Block> ? rows * blocks : 0;
  float* memory = static_cast<float*>(
      thread_scratch(ScratchSlot::packed_a, static_cast<size_t>(copied + sums + 1) * sizeof(float)));
  Activations x{memory, args.k, memory + copied, blocks};
  if constexpr (sizeof(T) == sizeof(float)) {
    x.values = a;
    x.stride = args.lda;
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t l = 0; l < args.k; l += kLanes) store(memory + r * args.k + l, load(a + r * args.lda + l));
    }
  }
  for (int64_t i = 0; i < sums; ++i) {
    const float* values = x.values + i / blocks * x.stride + i % blocks * kQuantBlock;
    Floats sum = load(values);
    for (int v = 1; v < kBlockVectors; ++v) sum = sum + load(values + v * kLanes);
    memory[copied + i] = reduce_sum(sum);
  }
  return x;
}

template <class Block, class T>
void multiply_rows(const GemmArgs& args) {
  for (int64_t row = 0; row < args.m;) {
    const int64_t left = args.m - row;
    // Few counts, so that the code stays small; what remains is done one row at a time.
    const int64_t rows = left >= kMaxRows ? kMaxRows : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const Activations x = activations<Block, T>(args, row, rows);
    if (rows == 8) multiply<Block, T, 8>(args, row, x);
    if (rows == 4) multiply<Block, T, 4>(args, row, x);
    if (rows == 2) multiply<Block, T, 2>(args, row, x);
    if (rows == 1) multiply<Block, T, 1>(args, row, x);
    row += rows;
  }
}

template <class T>
void quant_gemm(const QuantGemmArgs& args, Stream) {
  switch (args.format) {
    case QuantFormat::q8_0:
      return multiply_rows<BlockQ8_0, T>(args.product);
    case QuantFormat::q4_0:
      return multiply_rows<BlockQ4_0, T>(args.product);
    case QuantFormat::q4_1:
      return multiply_rows<BlockQ4_1, T>(args.product);
    default:  // these go through dequantised panels (ops/quantized.cpp)
      return;
  }
}

template <class Block, class T>
void dequantize_rows(const DequantizeArgs& args) {
  const int64_t blocks = args.cols / kQuantBlock;
  parallel_for(args.rows, 8192 / (args.cols + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t source = args.ids == nullptr ? row : args.ids[row];
      const Block* weights = static_cast<const Block*>(args.blocks) + source * blocks;
      T* out = static_cast<T*>(args.out) + row * args.cols;
      for (int64_t b = 0; b < blocks; ++b) {
        Floats integers[kBlockVectors];
        block_integers(weights[b], integers);
        const Floats scale = splat(static_cast<float>(weights[b].scale));
        for (int v = 0; v < kBlockVectors; ++v) {
          Floats weight = integers[v] * scale;
          if constexpr (kHasMinimum<Block>) weight = weight + splat(static_cast<float>(weights[b].minimum));
          store(out + b * kQuantBlock + v * kLanes, weight);
        }
      }
    }
  });
}

/// The formats without vector code of their own.
template <class T>
void dequantize_by_rows(const DequantizeArgs& args) {
  const int64_t row_bytes = quantized_row_bytes(args.format, args.cols);
  parallel_for(args.rows, 8192 / (args.cols + 1) + 1, [&](int64_t begin, int64_t end) {
    float* values = static_cast<float*>(
        thread_scratch(ScratchSlot::packed_a, static_cast<size_t>(args.cols) * sizeof(float)));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t source = args.ids == nullptr ? row : args.ids[row];
      T* out = static_cast<T*>(args.out) + row * args.cols;
      dequantize_row(args.format, static_cast<const uint8_t*>(args.blocks) + source * row_bytes, args.cols, values);
      for (int64_t i = 0; i < args.cols; i += kLanes) store(out + i, load(values + i));
    }
  });
}

template <class T>
void dequantize(const DequantizeArgs& args, Stream) {
  switch (args.format) {
    case QuantFormat::q8_0:
      return dequantize_rows<BlockQ8_0, T>(args);
    case QuantFormat::q4_0:
      return dequantize_rows<BlockQ4_0, T>(args);
    case QuantFormat::q4_1:
      return dequantize_rows<BlockQ4_1, T>(args);
    default:
      return dequantize_by_rows<T>(args);
  }
}

}  // namespace

void add_quantized_rows(KernelTable& table) {
  table.quant_gemm.set(DType::f32, quant_gemm<float>);
  table.quant_gemm.set(DType::bf16, quant_gemm<bfloat16>);
  table.dequantize.set(DType::f32, dequantize<float>);
  table.dequantize.set(DType::bf16, dequantize<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
