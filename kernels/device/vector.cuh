// Loads and stores of several neighbouring elements at once, 128 bits where alignment allows (Vector<float, 4>,
// Vector<bfloat16, 8>). The address must be aligned to the whole vector.
#pragma once

#include "device/convert.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// Elements of T in 128 bits.
template <class T>
inline constexpr int kVector128 = 16 / static_cast<int>(sizeof(T));

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T value[kCount];
};

/// kCount elements as f32, in registers.
template <int kCount>
struct Floats {
  float value[kCount];
  __device__ float& operator[](int i) { return value[i]; }
  __device__ float operator[](int i) const { return value[i]; }
};

template <int kCount, class T>
__device__ inline Floats<kCount> load_floats(const T* address) {
  const Vector<T, kCount> raw = *reinterpret_cast<const Vector<T, kCount>*>(address);
  Floats<kCount> out;
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = to_float(raw.value[i]);
  return out;
}

template <int kCount, class T>
__device__ inline void store_floats(T* address, const Floats<kCount>& values) {
  Vector<T, kCount> raw;
#pragma unroll
  for (int i = 0; i < kCount; ++i) raw.value[i] = from_float<T>(values[i]);
  *reinterpret_cast<Vector<T, kCount>*>(address) = raw;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
