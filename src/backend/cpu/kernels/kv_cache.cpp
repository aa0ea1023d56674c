// cache_append: new keys and values into a decoder's cache, a copy for each token.
#include <cstring>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

template <class T>
void cache_append(const CacheAppendArgs& args, Stream) {
  const size_t bytes = static_cast<size_t>(args.width) * sizeof(T);
  const int64_t grain = 16384 / (args.width + 1) + 1;
  parallel_for(args.batch * args.length, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / args.length, t = row % args.length;
      const int64_t position = args.starts[b] + t;
      if (position < 0 || position >= args.ends[b] || position >= args.capacity) continue;
      const int64_t to = b * args.cache_stride_b + position * args.cache_stride_t;
      const int64_t from_key = b * args.key_stride_b + t * args.key_stride_t;
      const int64_t from_value = b * args.value_stride_b + t * args.value_stride_t;
      std::memcpy(static_cast<T*>(args.key_cache) + to, static_cast<const T*>(args.keys) + from_key, bytes);
      std::memcpy(static_cast<T*>(args.value_cache) + to, static_cast<const T*>(args.values) + from_value, bytes);
    }
  });
}

}  // namespace

void add_kv_cache_rows(KernelTable& table) {
  table.cache_append.set(DType::f32, cache_append<float>);
  table.cache_append.set(DType::bf16, cache_append<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
