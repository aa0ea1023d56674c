// cache_append: new keys and values into a decoder's cache.
//
// Formula: cache[b, starts[b] + t, :] = in[b, t, :] for t < ends[b] - starts[b], keys and values alike. Where the
// tokens
//          belong is read from device memory, so that a captured step can be replayed while the cache grows.
// Layout: in (B, T, width) and cache (B, capacity, width) with strides; width contiguous.
// Mapping: a thread for 128 bits of a token's keys and of its values where alignment allows, else for one element.
// Accumulation: none.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;

template <class T, int kCount>
__global__ void cache_append_kernel(CacheAppendArgs args) {
  const int64_t item = global_thread();
  const int64_t units = args.width / kCount;
  if (item >= args.batch * args.length * units) return;
  const int64_t row = item / units, column = (item - row * units) * kCount;
  const int64_t b = row / args.length, t = row - b * args.length;
  const int64_t position = args.starts[b] + t;
  if (position < 0 || position >= args.ends[b] || position >= args.capacity) return;
  using Unit = Vector<T, kCount>;
  const int64_t to = b * args.cache_stride_b + position * args.cache_stride_t + column;
  const T* key = static_cast<const T*>(args.keys) + b * args.key_stride_b + t * args.key_stride_t + column;
  const T* value = static_cast<const T*>(args.values) + b * args.value_stride_b + t * args.value_stride_t + column;
  *reinterpret_cast<Unit*>(static_cast<T*>(args.key_cache) + to) = *reinterpret_cast<const Unit*>(key);
  *reinterpret_cast<Unit*>(static_cast<T*>(args.value_cache) + to) = *reinterpret_cast<const Unit*>(value);
}

template <class T>
void cache_append(const CacheAppendArgs& args, Stream stream) {
  constexpr int kWide = kVector128<T>;
  bool wide = aligned(16, args.keys, args.values, args.key_cache, args.value_cache);
  for (const int64_t count : {args.width, args.key_stride_b, args.key_stride_t, args.value_stride_b,
                              args.value_stride_t, args.cache_stride_b, args.cache_stride_t}) {
    wide = wide && count % kWide == 0;
  }
  const int64_t items = args.batch * args.length * (wide ? args.width / kWide : args.width);
  if (items == 0) return;
  launch("cache_append", wide ? cache_append_kernel<T, kWide> : cache_append_kernel<T, 1>,
         blocks_for("cache_append", items, kThreads), kThreads, 0, stream, args);
}

}  // namespace

void add_kv_cache_rows(KernelTable& table) {
  table.cache_append.set(DType::f32, cache_append<float>);
  table.cache_append.set(DType::bf16, cache_append<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
