// dropout: the mask from the counter-based generator, four words per block; a residual is added in the same pass.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/philox_lanes.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kGrain = 64 * kPhiloxWords;

/// The lanes as they will be read back after being stored as T.
template <class T>
inline Floats rounded(Floats a) {
  alignas(64) T stored[kLanes];
  store(stored, a);
  return load(stored);
}

template <class T>
void dropout(const DropoutArgs& args, Stream) {
  const T* in = static_cast<const T*>(args.in);
  const T* residual = static_cast<const T*>(args.residual);
  T* out = static_cast<T*>(args.out);
  const PhiloxLanesKey key(args.rng);
  const Floats threshold = splat(dropout_threshold(args.p)), factor = splat(1.0f / (1.0f - args.p));
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kPhiloxWords) {
      alignas(64) uint32_t words[kPhiloxWords];
      philox_words(key, static_cast<uint64_t>(first) / 4, words);
      const int64_t count = end - first < kPhiloxWords ? end - first : kPhiloxWords;
      for_each_vector(count, [&](int64_t i, auto n) {
        Floats value = load_lanes(in + first + i, n) * factor;
        value = select(leading_bits(words + i) >= threshold, value, splat(0.0f));
        if (residual != nullptr) value = load_lanes(residual + first + i, n) + rounded<T>(value);
        store_lanes(out + first + i, value, n);
      });
    }
  });
}

}  // namespace

void add_dropout_rows(KernelTable& table) {
  table.dropout.set(DType::f32, dropout<float>);
  table.dropout.set(DType::bf16, dropout<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
