#include "backend/cpu/kernels/pack.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {
constexpr int64_t kPrefetchRows = 8;
}  // namespace

#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)

void transpose_block(Floats (&block)[kLanes]) {
  __m512 pair[16], quad[16];
  for (int i = 0; i < 16; i += 2) {
    pair[i] = _mm512_unpacklo_ps(block[i].v, block[i + 1].v);
    pair[i + 1] = _mm512_unpackhi_ps(block[i].v, block[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int half = 0; half < 2; ++half) {
      const __m512d low = _mm512_castps_pd(pair[i + half]), high = _mm512_castps_pd(pair[i + half + 2]);
      quad[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      quad[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // quad[4 g + c] holds, in its 128-bit part p, column 4 p + c of the rows 4 g .. 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512 even01 = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0x88);
    const __m512 odd01 = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0xdd);
    block[c].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    block[8 + c].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    block[4 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    block[12 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

#elif defined(ONDOL_ISA_avx2)

void transpose_block(Floats (&block)[kLanes]) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(block[i].v, block[i + 1].v);
    pair[i + 1] = _mm256_unpackhi_ps(block[i].v, block[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; ++half) {
      const __m256d low = _mm256_castps_pd(pair[i + half]), high = _mm256_castps_pd(pair[i + half + 2]);
      quad[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      quad[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
  }
  for (int c = 0; c < 4; ++c) {
    block[c].v = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x20);
    block[4 + c].v = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x31);
  }
}

#else

void transpose_block(Floats (&block)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float upper = block[j].v[i];
      block[j].v[i] = block[i].v[j];
      block[i].v[j] = upper;
    }
  }
}

#endif

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
