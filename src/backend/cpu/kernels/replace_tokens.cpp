// replace_tokens: a draw from the softmax of each row by Gumbel's maximum.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/philox_lanes.h"
#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

/// The index of the first element of the largest logits[i] / temperature + Gumbel noise.
int32_t draw(const float* logits, int64_t cols, float temperature, const PhiloxLanesKey& key, uint64_t first_block) {
  const Floats factor = splat(1.0f / temperature), lowest = splat(-__builtin_inff());
  const Floats unit = splat(1.0f / 16777216.0f);  // of the 24 leading bits; 0 gives noise of -infinity
  float best = -__builtin_inff();
  int64_t best_at = 0;
  alignas(64) float scores[kPhiloxWords];
  for (int64_t first = 0; first < cols; first += kPhiloxWords) {
    alignas(64) uint32_t words[kPhiloxWords];
    philox_words(key, first_block + static_cast<uint64_t>(first) / 4, words);
    const int64_t count = cols - first < kPhiloxWords ? cols - first : kPhiloxWords;
    Floats largest = lowest;
    for_each_vector(count, [&](int64_t i, auto n) {
      const Floats uniform = leading_bits(words + i) * unit;
      const Floats noise = splat(0.0f) - log(splat(0.0f) - log(uniform));
      const Floats score = fma(load_lanes(logits + first + i, n), factor, noise);
      store_lanes(scores + i, score, n);
      largest = max(largest, keep_lanes(score, lowest, n));
    });
    const float piece = reduce_max(largest);
    if (!(piece > best)) continue;
    best = piece;
    for (int64_t i = 0; i < count; ++i) {
      if (scores[i] != piece) continue;
      best_at = first + i;
      break;
    }
  }
  return static_cast<int32_t>(best_at);
}

void replace_tokens(const ReplaceTokensArgs& args, Stream) {
  const uint64_t blocks = (static_cast<uint64_t>(args.cols) + 3) / 4;
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int32_t label = args.labels[row];
      if (label == args.ignore_index) continue;
      const int64_t n = args.kept == nullptr ? args.first_row + row : args.kept[row];
      const int64_t b = n / (args.positions == nullptr ? args.length : args.row_count);
      const int64_t t = args.positions == nullptr ? n % args.length : args.positions[n];
      const int64_t place = b * args.length + t;
      const PhiloxLanesKey key(RngArgs{args.seed, args.stream, args.samples + b});
      const uint64_t first = (static_cast<uint64_t>(args.samples[b]) >> 32 << 40) + static_cast<uint64_t>(t) * blocks;
      const int32_t token = draw(args.logits + row * args.cols, args.cols, args.temperature, key, first);
      args.tokens[place] = token;
      args.replaced[place] = token != label;
    }
  });
}

}  // namespace

void add_replace_tokens_rows(KernelTable& table) { table.replace_tokens.set(DType::f32, replace_tokens); }

}  // namespace ondol::cpu::ONDOL_ISA
