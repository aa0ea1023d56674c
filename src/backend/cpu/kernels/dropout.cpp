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
  /// Elements begin ... end - 1, whose numbers follow each other.
  const auto run = [&](int64_t begin, int64_t end, uint64_t number) {
    alignas(64) uint32_t words[kPhiloxWords + kLanes] = {};  // the last ones are read and not used
    for (int64_t first = begin; first < end;) {
      philox_words(key, number / 4, words);
      const auto skipped = static_cast<int64_t>(number % 4);
      const int64_t room = kPhiloxWords - skipped, count = end - first < room ? end - first : room;
      for_each_vector(count, [&](int64_t i, auto n) {
        Floats value = load_lanes(in + first + i, n) * factor;
        value = select(leading_bits(words + skipped + i) >= threshold, value, splat(0.0f));
        if (residual != nullptr) value = load_lanes(residual + first + i, n) + rounded<T>(value);
        store_lanes(out + first + i, value, n);
      });
      first += count;
      number += static_cast<uint64_t>(count);
    }
  };
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end;) {
      const int64_t row = first / args.row_length, column = first % args.row_length;
      const int64_t left = args.row_length - column, last = end - first < left ? end : first + left;
      run(first, last, static_cast<uint64_t>(args.first + row * args.row_stride + column));
      first = last;
    }
  });
}

}  // namespace

void add_dropout_rows(KernelTable& table) {
  table.dropout.set(DType::f32, dropout<float>);
  table.dropout.set(DType::bf16, dropout<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
