// quant_gemm and dequantize: weights in blocks of 32 (base/quantized_blocks.h: Q8_0, Q4_0, Q4_1).
//
// Formula: c[r, n] = epilogue(sum over blocks b of scale(n, b) * sum_i integer(n, b, i) x[r, 32 b + i]
//          + minimum(n, b) * sum_i x[r, 32 b + i]).
// Layout: weights (n, k / 32) blocks of 34, 18 or 20 bytes, contiguous; x (m, k) with a row stride; c as in gemm.cu.
// Mapping: first every block of x is written as fixed-point numbers of two (bf16) or three (f32) signed bytes with a
//          common scale, so that the product is byte dot products (four multiplications an instruction), exact as
//          integers, and bound by memory alone. Then kFewRowsWarps warps share kOutputs rows of weights: each takes
//          groups of 32 blocks, a block per lane. A group lies anywhere in memory: it is read in aligned units of 128
//          bits into shared memory, from which each lane takes its block.
// Accumulation: f32 over blocks; lanes and warps are added in a fixed order. The fixed-point form keeps 15 or 23 bits
// of
//          the largest element of a block.
// Tuning: kFewRowsWarps, kOutputs, untuned: not run on a GPU yet.
#include "device/few_rows.cuh"
#include "device/integer.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kOutputs = 2;
constexpr int kMaxRows = 8;  // rows of x that share one pass over the weights
constexpr int kUnit = 16;    // bytes

template <class T>
inline constexpr int kDigits = sizeof(T) == 2 ? 2 : 3;

/// Where the fixed-point form of x lies: for each row and digit the lower and the upper 16 bytes of every block (16
/// bytes a lane: reads are coalesced), scales and sums for each row and block.
struct FixedPoint {
  uint4* digits;  // (rows, digits, 2, blocks)
  float* scale;   // (rows, blocks)
  float* sum;     // (rows, blocks)
};

/// One warp for each (row, block).
template <class T, int kDigitCount>
__global__ void fixed_point_kernel(const T* x, int64_t row_stride, int64_t rows, int64_t blocks, FixedPoint out) {
  const int64_t item = global_thread() / kWarpSize;
  if (item >= rows * blocks) return;
  const int64_t row = item / blocks, block = item - row * blocks;
  const int lane = lane_index();
  const float value = to_float(x[row * row_stride + block * kQuantBlock + lane]);
  const float largest = warp_reduce(fabsf(value), Max{});
  const float sum = warp_reduce(value, Sum{});
  constexpr float kLargestInteger = kDigitCount == 2 ? 32639.0f : 8355711.0f;  // 127 in every digit
  const bool usable = largest > 0.0f && largest < INFINITY;
  const float scale = usable ? largest / kLargestInteger : largest == 0.0f ? 0.0f : NAN;
  int rest = usable ? static_cast<int>(rintf(value / largest * kLargestInteger)) : 0;
  int8_t digit[kDigitCount];
#pragma unroll
  for (int d = kDigitCount - 1; d >= 0; --d) {  // the last digit is the lowest; each one lies in [-128, 127]
    digit[d] = static_cast<int8_t>(((rest + 128) & 255) - 128);
    rest = (rest - digit[d]) / 256;
  }
  int8_t* digits = reinterpret_cast<int8_t*>(out.digits);
#pragma unroll
  for (int d = 0; d < kDigitCount; ++d) {
    const int64_t unit = ((row * kDigitCount + d) * 2 + lane / kUnit) * blocks + block;
    digits[unit * kUnit + lane % kUnit] = digit[d];
  }
  if (lane != 0) return;
  out.scale[item] = scale;
  out.sum[item] = sum;
}

template <class Block>
struct BlockTraits;
template <>
struct BlockTraits<BlockQ8_0> {
  static constexpr int kWords = 8, kHeader = 2;
  static constexpr float kFactor = 1.0f;
};
template <>
struct BlockTraits<BlockQ4_0> {
  static constexpr int kWords = 4, kHeader = 2;
  static constexpr float kFactor = 1.0f / 16.0f;  // its integers are held sixteenfold
};
template <>
struct BlockTraits<BlockQ4_1> {
  static constexpr int kWords = 4, kHeader = 4;
  static constexpr float kFactor = 1.0f;
};

/// The integers of one block as eight words of signed bytes, in order, with its scale and minimum.
struct Weights {
  uint32_t word[8];
  float scale, minimum;
};

/// `words` are the packed integers of the block.
__device__ inline void spread(const BlockQ8_0*, const uint32_t* words, Weights& out) {
#pragma unroll
  for (int i = 0; i < 8; ++i) out.word[i] = words[i];
}
/// Nibble - 8 is the nibble with its top bit flipped, read as a signed number; at the top of a byte that is 16 times
/// it.
__device__ inline void spread(const BlockQ4_0*, const uint32_t* words, Weights& out) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t flipped = words[i] ^ 0x88888888u;
    out.word[i] = (flipped << 4) & 0xf0f0f0f0u;
    out.word[i + 4] = flipped & 0xf0f0f0f0u;
  }
}
__device__ inline void spread(const BlockQ4_1*, const uint32_t* words, Weights& out) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.word[i] = words[i] & 0x0f0f0f0fu;
    out.word[i + 4] = (words[i] >> 4) & 0x0f0f0f0fu;
  }
}

__device__ inline float half_at(const unsigned char* p) {
  float16 half;
  half.bits = *reinterpret_cast<const uint16_t*>(p);
  return to_float(half);
}

/// The block that begins `offset` bytes (even) into `staged`, which is aligned to 16.
template <class Block>
__device__ inline Weights take_block(const unsigned char* staged, int offset) {
  using Traits = BlockTraits<Block>;
  Weights out;
  out.scale = half_at(staged + offset) * Traits::kFactor;
  out.minimum = Traits::kHeader == 4 ? half_at(staged + offset + 2) : 0.0f;
  const int first = offset + Traits::kHeader;
  const uint32_t* aligned_words = reinterpret_cast<const uint32_t*>(staged) + first / 4;
  const unsigned shift = static_cast<unsigned>(first % 4) * 8;
  uint32_t words[Traits::kWords];
  uint32_t low = aligned_words[0];
#pragma unroll
  for (int i = 0; i < Traits::kWords; ++i) {
    const uint32_t high = aligned_words[i + 1];
    words[i] = funnel_right(low, high, shift);
    low = high;
  }
  spread(static_cast<const Block*>(nullptr), words, out);
  return out;
}

/// Bytes of shared memory for a group of 32 blocks at any even address: whole units on both sides, and one word more.
template <class Block>
inline constexpr int kStagedBytes = (kWarpSize * static_cast<int>(sizeof(Block)) + 2 * kUnit + kUnit - 1) / kUnit* kUnit
                                    + kUnit;

/// Reads the bytes [begin, end) of the weights into `staged`, unit by unit; gives the place of `begin` in it.
__device__ inline int stage(const unsigned char* begin, const unsigned char* end, unsigned char* staged) {
  const int offset = static_cast<int>(reinterpret_cast<uintptr_t>(begin) % kUnit);
  const unsigned char* base = begin - offset;
  const int units = static_cast<int>((end - base + kUnit - 1) / kUnit);
  for (int u = lane_index(); u < units; u += kWarpSize) {
    const unsigned char* unit = base + u * kUnit;
    unsigned char* to = staged + u * kUnit;
    if (unit >= begin && unit + kUnit <= end) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(unit);
    } else {  // what lies outside need not be there
#pragma unroll
      for (int i = 0; i < kUnit; i += 2) {
        if (unit + i >= begin && unit + i < end) {
          *reinterpret_cast<uint16_t*>(to + i) = *reinterpret_cast<const uint16_t*>(unit + i);
        }
      }
    }
  }
  return offset;
}

/// kRows rows of x at a time, `rows` of them present.
template <class Block, class T, int kRows>
__global__ void quant_gemm_kernel(GemmArgs args, FixedPoint x, int64_t first_row, int rows) {
  constexpr int kDigitCount = kDigits<T>;
  SharedMemory shared;
  unsigned char* staged = shared.take<unsigned char>(kFewRowsWarps * kOutputs * kStagedBytes<Block>) +
                          warp_index() * kOutputs * kStagedBytes<Block>;
  float* partial = shared.take<float>(kFewRowsScratch<kOutputs, kRows>);
  const int64_t blocks = args.k / kQuantBlock;
  const int64_t first_output = static_cast<int64_t>(blockIdx.x) * kOutputs;
  const auto* weights = static_cast<const unsigned char*>(args.b);
  const int64_t row_bytes = blocks * static_cast<int64_t>(sizeof(Block));

  float sum[kOutputs][kRows] = {};
  for (int64_t group = static_cast<int64_t>(warp_index()) * kWarpSize; group < blocks; group += kFewRowsThreads) {
    const int64_t group_end = group + kWarpSize < blocks ? group + kWarpSize : blocks;
    int offset[kOutputs] = {};
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const int64_t output = first_output + o < args.n ? first_output + o : first_output;  // never stored when beyond
      const unsigned char* row = weights + output * row_bytes;
      offset[o] = stage(row + group * static_cast<int64_t>(sizeof(Block)),
                        row + group_end * static_cast<int64_t>(sizeof(Block)), staged + o * kStagedBytes<Block>);
    }
    warp_barrier();
    const int64_t block = group + lane_index();
    if (block < group_end) {
      Weights w[kOutputs];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        w[o] = take_block<Block>(staged + o * kStagedBytes<Block>,
                                 offset[o] + lane_index() * static_cast<int>(sizeof(Block)));
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) continue;
        int dot[kOutputs][kDigitCount] = {};
#pragma unroll
        for (int d = 0; d < kDigitCount; ++d) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint4 values = x.digits[((static_cast<int64_t>(r) * kDigitCount + d) * 2 + half) * blocks + block];
#pragma unroll
            for (int o = 0; o < kOutputs; ++o) {
              const uint32_t* word = w[o].word + 4 * half;
              dot[o][d] = dot4(word[0], values.x, dot[o][d]);
              dot[o][d] = dot4(word[1], values.y, dot[o][d]);
              dot[o][d] = dot4(word[2], values.z, dot[o][d]);
              dot[o][d] = dot4(word[3], values.w, dot[o][d]);
            }
          }
        }
        const float scale = x.scale[r * blocks + block], total = x.sum[r * blocks + block];
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) {
          float value = static_cast<float>(dot[o][kDigitCount - 2] * 256 + dot[o][kDigitCount - 1]);
          if constexpr (kDigitCount == 3) value += 65536.0f * static_cast<float>(dot[o][0]);
          sum[o][r] += w[o].scale * scale * value;
          if constexpr (BlockTraits<Block>::kHeader == 4) sum[o][r] += w[o].minimum * total;
        }
      }
    }
    warp_barrier();  // the next group takes the place of this one
  }

  finish_columns<T, kOutputs, kRows>(args, sum, first_row, rows, first_output, partial);
}

template <class Block, class T, int kRows>
void multiply(const GemmArgs& args, const FixedPoint& x, int64_t first_row, int rows, Stream stream) {
  const size_t bytes = shared_bytes<unsigned char>(kFewRowsWarps * kOutputs * kStagedBytes<Block>) +
                       shared_bytes<float>(kFewRowsScratch<kOutputs, kRows>);
  launch("quant_gemm", quant_gemm_kernel<Block, T, kRows>, blocks_for("quant_gemm", args.n, kOutputs), kFewRowsThreads,
         bytes, stream, args, x, first_row, rows);
}

template <class Block, class T>
void multiply_rows(const GemmArgs& args, Stream stream) {
  constexpr const char* op = "quant_gemm";
  if (args.m == 0 || args.n == 0) return;
  const int64_t blocks = args.k / kQuantBlock, held = std::min<int64_t>(args.m, kMaxRows);
  const Workspace<uint4> digits(op, held * kDigits<T> * 2 * blocks, stream);
  const Workspace<float> scales(op, 2 * held * blocks, stream);
  const FixedPoint x{digits.data(), scales.data(), scales.data() + held * blocks};
  for (int64_t row = 0; row < args.m; row += kMaxRows) {
    const int rows = static_cast<int>(std::min<int64_t>(args.m - row, kMaxRows));
    if (blocks > 0) {
      launch(op, fixed_point_kernel<T, kDigits<T>>, blocks_for(op, rows * blocks * kWarpSize, kFewRowsThreads),
             kFewRowsThreads, 0, stream, static_cast<const T*>(args.a) + row * args.lda, args.lda,
             static_cast<int64_t>(rows), blocks, x);
    }
    if (rows == 1) {
      multiply<Block, T, 1>(args, x, row, rows, stream);
    } else if (rows <= 4) {
      multiply<Block, T, 4>(args, x, row, rows, stream);
    } else {
      multiply<Block, T, 8>(args, x, row, rows, stream);
    }
  }
}

template <class T>
void quant_gemm(const QuantGemmArgs& args, Stream stream) {
  switch (args.format) {
    case QuantFormat::q8_0:
      return multiply_rows<BlockQ8_0, T>(args.product, stream);
    case QuantFormat::q4_0:
      return multiply_rows<BlockQ4_0, T>(args.product, stream);
    case QuantFormat::q4_1:
      return multiply_rows<BlockQ4_1, T>(args.product, stream);
    default:
      throw_error("[quant_gemm] no cuda kernel for ", quant_format_name(args.format));
  }
}

constexpr int kQuarter = 4;  // bytes of nibbles, or twice as many weights, that a thread of dequantize takes

__device__ inline Floats<kQuarter> integers(const BlockQ8_0& block, int first) {
  Floats<kQuarter> out;
#pragma unroll
  for (int i = 0; i < kQuarter; ++i) out[i] = static_cast<float>(block.value[first + i]);
  return out;
}
__device__ inline Floats<kQuarter> nibble_values(const uint8_t* nibbles, int first, float offset) {
  Floats<kQuarter> out;
#pragma unroll
  for (int i = 0; i < kQuarter; ++i) {
    const int byte = nibbles[first % 16 + i];
    out[i] = static_cast<float>(first < 16 ? byte & 15 : byte >> 4) + offset;
  }
  return out;
}
__device__ inline Floats<kQuarter> integers(const BlockQ4_0& block, int first) {
  return nibble_values(block.nibbles, first, -8.0f);
}
__device__ inline Floats<kQuarter> integers(const BlockQ4_1& block, int first) {
  return nibble_values(block.nibbles, first, 0.0f);
}
template <class Block>
__device__ inline float minimum_of(const Block&) {
  return 0.0f;
}
__device__ inline float minimum_of(const BlockQ4_1& block) { return to_float(block.minimum); }

/// Thread p of a block: weights [4 p, 4 p + 4) and [16 + 4 p, 16 + 4 p + 4).
template <class Block, class T, bool kAligned>
__global__ void dequantize_kernel(DequantizeArgs args) {
  const int64_t blocks = args.cols / kQuantBlock;
  const int64_t item = global_thread() / kQuarter;
  if (item >= args.rows * blocks) return;
  const int p = static_cast<int>(global_thread() % kQuarter);
  const int64_t row = item / blocks, b = item - row * blocks;
  const int64_t source = args.ids == nullptr ? row : args.ids[row];
  const bool inside = source >= 0 && source < args.weight_rows;
  T* out = static_cast<T*>(args.out) + row * args.cols + b * kQuantBlock;
#pragma unroll
  for (int first = kQuarter * p; first < kQuantBlock; first += 16) {
    Floats<kQuarter> value;
    if (inside) {
      const Block& block = static_cast<const Block*>(args.blocks)[source * blocks + b];
      value = integers(block, first);
      const float scale = to_float(block.scale), minimum = minimum_of(block);
#pragma unroll
      for (int i = 0; i < kQuarter; ++i) value[i] = value[i] * scale + minimum;
    } else {
#pragma unroll
      for (int i = 0; i < kQuarter; ++i) value[i] = NAN;
    }
    if constexpr (kAligned) {
      store_floats<kQuarter>(out + first, value);
    } else {
#pragma unroll
      for (int i = 0; i < kQuarter; ++i) out[first + i] = from_float<T>(value[i]);
    }
  }
}

template <class Block, class T>
void dequantize_rows(const DequantizeArgs& args, Stream stream) {
  const int64_t threads = args.rows * (args.cols / kQuantBlock) * kQuarter;
  if (threads == 0) return;
  const bool wide = aligned(kQuarter * sizeof(T), args.out);
  launch("dequantize", wide ? dequantize_kernel<Block, T, true> : dequantize_kernel<Block, T, false>,
         blocks_for("dequantize", threads, kFewRowsThreads), kFewRowsThreads, 0, stream, args);
}

template <class T>
void dequantize(const DequantizeArgs& args, Stream stream) {
  switch (args.format) {
    case QuantFormat::q8_0:
      return dequantize_rows<BlockQ8_0, T>(args, stream);
    case QuantFormat::q4_0:
      return dequantize_rows<BlockQ4_0, T>(args, stream);
    case QuantFormat::q4_1:
      return dequantize_rows<BlockQ4_1, T>(args, stream);
    default:
      throw_error("[dequantize] no cuda kernel for ", quant_format_name(args.format));
  }
}

}  // namespace

void add_quantized_rows(KernelTable& table) {
  table.quant_gemm.set(DType::f32, quant_gemm<float>);
  table.quant_gemm.set(DType::bf16, quant_gemm<bfloat16>);
  table.dequantize.set(DType::f32, dequantize<float>);
  table.dequantize.set(DType::bf16, dequantize<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
