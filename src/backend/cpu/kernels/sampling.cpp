// sample: the next token of each row of logits (ops/sampling.h says which). Everything that is compared between devices
// is exact: scores are single IEEE operations, weights integers.
#include "backend/sampling_math.h"

#include <bit>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

uint32_t key_of(float score) { return sampling::order_key(std::bit_cast<uint32_t>(score)); }

/// The largest key t for which reached(mass of all keys >= t), found byte by byte from the top; `above` is the mass of
/// the keys beyond it. mass(i) counts for element i; 0 leaves it out.
template <class Mass, class Reached>
uint32_t select_key(const float* scores, int64_t count, const Mass& mass, const Reached& reached, uint64_t& above) {
  uint32_t prefix = 0;
  above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    uint64_t histogram[256] = {};
    const uint32_t decided = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t key = key_of(scores[i]);
      if ((key & decided) == prefix) histogram[(key >> shift) & 255] += mass(i);
    }
    uint32_t digit = 255;
    while (digit > 0 && !reached(above + histogram[digit])) above += histogram[digit--];
    prefix |= digit << shift;
  }
  return prefix;
}

/// scores = canonical(logit / temperature), with the penalty for tokens seen before; gives the largest, NaN when one
/// is.
template <class T>
float make_scores(const SampleArgs& args, int64_t row, float* scores) {
  const T* logits = static_cast<const T*>(args.logits) + row * args.cols;
  const float divisor = args.temperature > 0.0f ? args.temperature : 1.0f;
  const Floats smallest = splat(__FLT_MIN__), zero = splat(0.0f);
  for_each_vector(args.cols, [&](int64_t i, auto n) {
    const Floats score = load_lanes(logits + i, n) / splat(divisor);
    store_lanes(scores + i, select(abs(score) < smallest, zero, score), n);
  });
  if (args.history != nullptr) {
    const int32_t* history = args.history + row * args.history_stride;
    const int64_t length = args.history_lengths == nullptr ? args.history_stride : args.history_lengths[row];
    for (int64_t i = 0; i < length; ++i) {  // from the logit each time: an id seen twice is penalised once
      if (history[i] < 0 || history[i] >= args.cols) continue;
      const float logit = static_cast<float>(logits[history[i]]);
      scores[history[i]] = sampling::canonical(sampling::penalised(logit, args.repetition_penalty) / divisor);
    }
  }
  Mask nan = is_nan(zero);
  for_each_vector(args.cols, [&](int64_t i, auto n) { nan = nan | is_nan(load_lanes(scores + i, n)); });
  return any(nan) ? __builtin_nanf("") : row_max(scores, args.cols);
}

uint64_t total_of(const float* weights, int64_t count) {
  uint64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += sampling::fixed_weight(weights[i]);
  return total;
}

/// Sets the weights outside the smallest set of most likely tokens that holds top_p to 0; ties are kept from the front.
void keep_top_p(const SampleArgs& args, const float* scores, float* weights) {
  const double wanted = sampling::wanted_mass(args.top_p, total_of(weights, args.cols));
  uint64_t above = 0;
  const uint32_t last = select_key(
      scores, args.cols, [weights](int64_t i) { return sampling::fixed_weight(weights[i]); },
      [wanted](uint64_t mass) { return static_cast<double>(mass) >= wanted; }, above);
  int64_t ties = 0;
  uint64_t each = 0;
  for (int64_t i = 0; i < args.cols; ++i) {
    if (key_of(scores[i]) != last) continue;
    ++ties;
    each = sampling::fixed_weight(weights[i]);
  }
  int64_t kept = sampling::ties_to_keep(above, each, ties, wanted);
  for (int64_t i = 0; i < args.cols; ++i) {
    const uint32_t key = key_of(scores[i]);
    if (key < last || (key == last && kept-- <= 0)) weights[i] = 0.0f;
  }
}

template <class T>
int32_t sample_row(const SampleArgs& args, int64_t row, float* scores, float* weights) {
  const int64_t cols = args.cols;
  const float largest = make_scores<T>(args, row, scores);
  if (!(__builtin_fabsf(largest) <= __FLT_MAX__)) return -1;
  if (args.temperature == 0.0f) {
    int64_t i = 0;
    while (scores[i] != largest) ++i;
    return static_cast<int32_t>(i);
  }
  float lowest = -__builtin_inff();
  if (args.top_k > 0 && args.top_k < cols) {
    uint64_t above = 0;
    const uint64_t wanted = static_cast<uint64_t>(args.top_k);
    const uint32_t key = select_key(
        scores, cols, [](int64_t) { return uint64_t{1}; }, [wanted](uint64_t count) { return count >= wanted; }, above);
    lowest = std::bit_cast<float>(key & 0x80000000u ? key ^ 0x80000000u : ~key);
  }
  const Floats shift = splat(largest), lowest_kept = splat(lowest), zero = splat(0.0f);
  const Floats lowest_log = splat(sampling::kLowestLogLikelihood);
  for_each_vector(cols, [&](int64_t i, auto n) {
    const Floats score = load_lanes(scores + i, n), x = score - shift;
    const Floats weight = select(x >= lowest_log, exp(x), zero);
    store_lanes(weights + i, select(score >= lowest_kept, weight, zero), n);
  });
  if (args.top_p < 1.0f) keep_top_p(args, scores, weights);
  const Floats least = splat(args.min_p);
  for_each_vector(cols, [&](int64_t i, auto n) {
    const Floats weight = load_lanes(weights + i, n);
    store_lanes(weights + i, select(weight < least, zero, weight), n);
  });
  const int64_t step = args.steps == nullptr ? 0 : args.steps[row];
  uint64_t left = sampling::draw(args.seed, step, total_of(weights, cols));
  for (int64_t i = 0; i < cols; ++i) {
    const uint64_t weight = sampling::fixed_weight(weights[i]);
    if (left < weight) return static_cast<int32_t>(i);
    left -= weight;
  }
  return -1;  // not reached: the draw lies below the total
}

template <class T>
void sample(const SampleArgs& args, Stream) {
  parallel_for(args.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* scores =
          static_cast<float*>(thread_scratch(ScratchSlot::task, static_cast<size_t>(2 * args.cols) * sizeof(float)));
      float* weights = args.weights == nullptr ? scores + args.cols : args.weights + row * args.cols;
      args.tokens[row] = sample_row<T>(args, row, scores, weights);
    }
  });
}

}  // namespace

void add_sampling_rows(KernelTable& table) {
  table.sample.set(DType::f32, sample<float>);
  table.sample.set(DType::bf16, sample<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
