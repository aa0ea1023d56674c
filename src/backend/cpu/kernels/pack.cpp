#include "backend/cpu/kernels/pack.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {
// Rows copied together: each panel then receives whole cache lines, and memory is read in this many forward streams.
constexpr int64_t kPackedRows = 8;
}  // namespace

template <class T>
void pack_rows(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t panel_cols, float* out,
               int64_t panel_stride) {
  for (int64_t l = 0; l < rows; l += kPackedRows) {
    const int64_t count = rows - l < kPackedRows ? rows - l : kPackedRows;
    float* panel = out + l * panel_cols;
    for (int64_t begin = 0; begin < cols; begin += panel_cols, panel += panel_stride) {
      const int64_t present = cols - begin < panel_cols ? cols - begin : panel_cols;
      for (int64_t j = 0; j < panel_cols; j += kLanes) {
        const T* source = in + l * in_stride + begin + j;
        float* target = panel + j;
        const int64_t room = panel_cols - j < kLanes ? panel_cols - j : kLanes;
        const int64_t width = present - j < room ? (present > j ? present - j : 0) : room;
        if (width == kLanes) {
          for (int64_t i = 0; i < count; ++i) store(target + i * panel_cols, load(source + i * in_stride));
        } else {
          for (int64_t i = 0; i < count; ++i) {
            store_n(target + i * panel_cols, load_n(source + i * in_stride, width), room);
          }
        }
      }
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
