// The part of the CUDA runtime and language that kernels/ uses, for the host compiler.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "emulator.h"
#include "recording.h"

#define __global__
#define __device__
#define __host__
#define __shared__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline const ondol::emulation::Index3& threadIdx = ondol::emulation::current.thread;
inline const ondol::emulation::Index3& blockIdx = ondol::emulation::current.block;
inline const ondol::emulation::Index3& blockDim = ondol::emulation::current.block_dim;
inline const ondol::emulation::Index3& gridDim = ondol::emulation::current.grid_dim;

inline void __syncthreads() { ondol::emulation::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { ondol::emulation::vote(mask, true); }
inline unsigned __ballot_sync(unsigned mask, int predicate) { return ondol::emulation::vote(mask, predicate != 0); }
inline int __any_sync(unsigned mask, int predicate) { return ondol::emulation::vote(mask, predicate != 0) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return ondol::emulation::vote(mask, predicate != 0) == mask; }

template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = ondol::emulation::exchange(mask, bits, source & 31);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x & 31) ^ lane_mask);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  const int lane = static_cast<int>(threadIdx.x & 31);
  const int source = lane + static_cast<int>(delta);
  return __shfl_sync(mask, value, source < 32 ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const int lane = static_cast<int>(threadIdx.x & 31);
  const int source = lane - static_cast<int>(delta);
  return __shfl_sync(mask, value, source >= 0 ? source : lane);
}

template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __dp4a(int a, int b, int sum) {
  for (int shift = 0; shift < 32; shift += 8) {
    sum += static_cast<int>(static_cast<int8_t>(a >> shift)) * static_cast<int>(static_cast<int8_t>(b >> shift));
  }
  return sum;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift & 31));
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice };

/// The emulated device has compute capability 9.0.
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : "invalid value";
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
  return bytes <= 227 << 10 ? cudaSuccess : cudaErrorInvalidValue;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

template <class... Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Parameters... args) {
  const auto index3 = [](const dim3& d) { return ondol::emulation::Index3{d.x, d.y, d.z}; };
  const dim3 g = config->gridDim, b = config->blockDim;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) return cudaErrorInvalidValue;
  if (threads == 0 || threads > 1024 || b.z > 64) return cudaErrorInvalidValue;
  const ondol::emulation::LaunchShape shape{index3(g), index3(b), config->dynamicSmemBytes};
  ondol::emulation::submit([=] { ondol::emulation::run_kernel(shape, [&] { kernel(args...); }); });
  return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  ondol::emulation::submit([=] { std::memset(memory, value, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* out, const void* in, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  ondol::emulation::submit([=] { std::memmove(out, in, bytes); });
  return cudaSuccess;
}
