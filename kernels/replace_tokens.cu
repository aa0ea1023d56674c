// replace_tokens: a draw from the softmax of each row by Gumbel's maximum (Clark et al. 2020).
//
// Formula: argmax_v logits[v] / temperature - log(-log u_v), with the counter-based generator of base/philox.h.
// Layout: (rows, cols), contiguous, f32.
// Mapping: one block for each row; a thread takes the four neighbouring elements that one Philox block covers.
// Accumulation: none; of equal scores the first wins.
// Tuning: kMaxThreads, untuned: not run on a GPU yet.
#include <ondol/base/philox.h>

#include "device/block.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kGroup = 4;
constexpr int32_t kNone = 0x7fffffff;

__global__ void replace_tokens_kernel(ReplaceTokensArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  int32_t* scratch_index = shared.take<int32_t>(kReduceScratch);
  const int64_t row = blockIdx.x;
  const int32_t label = args.labels[row];
  if (label == args.ignore_index) return;
  const int64_t n = args.kept == nullptr ? args.first_row + row : args.kept[row];
  const int64_t b = n / (args.positions == nullptr ? args.length : args.row_count);
  const int64_t t = args.positions == nullptr ? n % args.length : args.positions[n];
  const int64_t place = b * args.length + t;
  const uint64_t sample = static_cast<uint64_t>(args.samples[b]);
  const uint64_t blocks = (static_cast<uint64_t>(args.cols) + kGroup - 1) / kGroup;
  const uint64_t first = (sample >> 32 << 40) + static_cast<uint64_t>(t) * blocks;
  const PhiloxKey key{args.seed, args.stream, static_cast<uint32_t>(sample)};
  const float* logits = args.logits + row * args.cols;
  const float factor = 1.0f / args.temperature;

  float best = -INFINITY;
  int32_t best_at = kNone;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kGroup; c < args.cols;
       c += static_cast<int64_t>(blockDim.x) * kGroup) {
    const PhiloxBlock random = philox_block(key, first + static_cast<uint64_t>(c / kGroup));
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (c + i >= args.cols) continue;
      const float score = fmaf(logits[c + i], factor, -logf(-logf(word_to_uniform(random.word[i]))));
      if (!(score > best)) continue;
      best = score;
      best_at = static_cast<int32_t>(c + i);
    }
  }
  const float greatest = block_max(best, scratch);
  const auto lower = [](int32_t x, int32_t y) { return x < y ? x : y; };
  const int32_t at = block_reduce(best == greatest ? best_at : kNone, kNone, lower, scratch_index);
  if (threadIdx.x != 0) return;
  const int32_t token = at == kNone ? 0 : at;
  args.tokens[place] = token;
  args.replaced[place] = token != label;
}

void replace_tokens(const ReplaceTokensArgs& args, Stream stream) {
  if (args.rows == 0) return;
  launch("replace_tokens", replace_tokens_kernel, blocks_for("replace_tokens", args.rows, 1),
         row_threads((args.cols + kGroup - 1) / kGroup, kMaxThreads),
         shared_bytes<float>(kReduceScratch) + shared_bytes<int32_t>(kReduceScratch), stream, args);
}

}  // namespace

void add_replace_tokens_rows(KernelTable& table) { table.replace_tokens.set(DType::f32, replace_tokens); }

}  // namespace ondol::ONDOL_CUDA_SPACE
