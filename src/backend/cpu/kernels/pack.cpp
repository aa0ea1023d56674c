#include "backend/cpu/kernels/pack.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {
constexpr int64_t kPrefetchRows = 8;
}  // namespace

template <class T>
void pack_rows(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t panel_cols, float* out,
               int64_t panel_stride) {
  for (int64_t l = 0; l < rows; ++l) {
    const T* source = in + l * in_stride;
    const T* ahead = source + kPrefetchRows * in_stride;  // hardware does not follow long strides
    for (int64_t i = 0; i < cols; i += 64 / sizeof(T)) __builtin_prefetch(ahead + i);
    float* target = out + l * panel_cols;
    for (int64_t begin = 0; begin < cols; begin += panel_cols, target += panel_stride) {
      const int64_t width = cols - begin < panel_cols ? cols - begin : panel_cols;
      int64_t j = 0;
      for (; j + kLanes <= width; j += kLanes) store(target + j, load(source + begin + j));
      if (j < width) {
        const int64_t room = panel_cols - j < kLanes ? panel_cols - j : kLanes;
        store_n(target + j, load_n(source + begin + j, width - j), room);
        j += room;
      }
      for (; j < panel_cols; ++j) target[j] = 0.0f;
    }
  }
}

template <class T>
void pack_transposed(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t padded_cols, float* out,
                     int64_t out_stride) {
  for (int64_t j = 0; j < padded_cols; j += kLanes) {
    const int64_t width = padded_cols - j < kLanes ? padded_cols - j : kLanes;
    const int64_t present = cols - j < width ? (cols > j ? cols - j : 0) : width;
    for (int64_t l = 0; l < rows; l += kLanes) {
      const int64_t depth = rows - l < kLanes ? rows - l : kLanes;
      const T* source = in + j * in_stride + l;
      Floats block[kLanes];
      if (depth == kLanes && present == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) block[i] = load(source + i * in_stride);
      } else {
        for (int i = 0; i < kLanes; ++i) block[i] = i < present ? load_n(source + i * in_stride, depth) : splat(0.0f);
      }
      transpose_block(block);
      float* target = out + l * out_stride + j;
      if (depth == kLanes && width == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(target + i * out_stride, block[i]);
      } else {
        for (int64_t i = 0; i < depth; ++i) store_n(target + i * out_stride, block[i], width);
      }
    }
  }
}

template void pack_rows(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_rows(const bfloat16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_transposed(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_transposed(const bfloat16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);

}  // namespace ondol::cpu::ONDOL_ISA
