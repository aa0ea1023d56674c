// sample: the next token of each row of logits (ops/sampling.h says which), the same one as on the CPU, to the bit:
// scores are single IEEE operations, likelihoods are whole multiples of 2^-40 (backend/sampling_math.h).
//
// Formula: penalty, temperature, top-k, top-p, min-p, one draw of Philox.
// Layout: (rows, cols) contiguous; scores and likelihoods (rows, cols) f32 in the workspace.
// Mapping: a block per row. The k-th score and the last one of the top-p set are found two bits a pass, by the mass of
//          what lies at or above each of three candidates. Where the order of ids matters (ties, the draw) each warp
//          has a contiguous range of them, 32 at a time.
// Accumulation: whole numbers, so that the order of sums does not matter.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "backend/sampling_math.h"
#include "device/block.cuh"
#include "device/convert.cuh"
#include "device/scan.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 1024;

/// e^x for -80 <= x <= 0, operation for operation what exp of the CPU's simd.h does.
__device__ float likelihood(float x) {
  if (!(x >= sampling::kLowestLogLikelihood)) return 0.0f;
  const float n = rintf(x * 1.44269504f);
  float r = fmaf(n, -0.693147182f, x);
  r = fmaf(n, 1.90465430e-9f, r);
  float tail = 0.00138146104f;
  tail = fmaf(tail, r, 0.00836871099f);
  tail = fmaf(tail, r, 0.041668389f);
  tail = fmaf(tail, r, 0.166665211f);
  tail = fmaf(tail, r, 0.49999994f);
  const float excess = fmaf(r * r, tail, r);
  const float power = __uint_as_float(static_cast<uint32_t>(static_cast<int>(n) + 127) << 23);
  return (1.0f + excess) * power;
}

__device__ uint32_t key_of(float score) { return sampling::order_key(__float_as_uint(score)); }

/// body(i) for the elements of this thread.
template <class Body>
__device__ void for_own(int64_t cols, Body body) {
  for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) body(i);
}

/// The contiguous range of ids that belongs to this warp, in steps of 32.
struct WarpRange {
  int64_t begin, end;
  __device__ explicit WarpRange(int64_t cols) {
    const int64_t share = (cols + blockDim.x - 1) / blockDim.x * 32;
    begin = warp_index() * share;
    end = begin + share < cols ? begin + share : cols;
  }
};

/// The largest key t for which reached(mass of all keys >= t).
template <class Mass, class Reached>
__device__ uint32_t select_key(const float* scores, int64_t cols, uint64_t* scratch, Mass mass, Reached reached) {
  uint32_t prefix = 0;
  for (int shift = 30; shift >= 0; shift -= 2) {
    uint64_t sum[3] = {};
    for_own(cols, [&](int64_t i) {
      const uint32_t key = key_of(scores[i]);
      const uint64_t weight = mass(i);
#pragma unroll
      for (uint32_t c = 0; c < 3; ++c) sum[c] += key >= (prefix | (c + 1) << shift) ? weight : 0;
    });
    uint32_t digit = 0;
#pragma unroll
    for (uint32_t c = 0; c < 3; ++c) {
      if (reached(block_sum(sum[c], scratch))) digit = c + 1;
    }
    prefix |= digit << shift;
  }
  return prefix;
}

__device__ uint64_t total_of(const float* weights, int64_t cols, uint64_t* scratch) {
  uint64_t sum = 0;
  for_own(cols, [&](int64_t i) { sum += sampling::fixed_weight(weights[i]); });
  return block_sum(sum, scratch);
}

/// Sets the weights outside the smallest set of most likely tokens that holds top_p to 0; ties are kept from the front.
__device__ void keep_top_p(const SampleArgs& args, const float* scores, float* weights, uint64_t* scratch) {
  const double wanted = sampling::wanted_mass(args.top_p, total_of(weights, args.cols, scratch));
  const uint32_t last = select_key(
      scores, args.cols, scratch, [&](int64_t i) { return sampling::fixed_weight(weights[i]); },
      [&](uint64_t mass) { return static_cast<double>(mass) >= wanted; });
  uint64_t above = 0, tied_mass = 0, ties = 0;
  for_own(args.cols, [&](int64_t i) {
    const uint32_t key = key_of(scores[i]);
    const uint64_t weight = sampling::fixed_weight(weights[i]);
    if (key > last) above += weight;
    if (key == last) {
      tied_mass += weight;
      ++ties;
    }
  });
  above = block_sum(above, scratch);
  tied_mass = block_sum(tied_mass, scratch);
  ties = block_sum(ties, scratch);
  const int64_t kept = sampling::ties_to_keep(above, tied_mass / ties, static_cast<int64_t>(ties), wanted);

  const WarpRange range(args.cols);
  const auto is_tie = [&](int64_t i) { return i < range.end && key_of(scores[i]) == last; };
  uint64_t own = 0;
  for (int64_t i = range.begin + lane_index(); i < range.end; i += 32) own += is_tie(i) ? 1 : 0;
  uint64_t rank = sum_of_warps_before(warp_reduce(own, Sum{}), scratch);
  for (int64_t i = range.begin; i < range.end; i += 32) {
    uint64_t found = 0;
    const int64_t at = i + lane_index();
    const bool tie = is_tie(at);
    const uint64_t before = rank + sum_of_lanes_before<uint64_t>(tie ? 1 : 0, found);
    rank += found;
    if (at < range.end && (key_of(scores[at]) < last || (tie && before >= static_cast<uint64_t>(kept)))) {
      weights[at] = 0.0f;
    }
  }
  block_barrier();
}

template <class T>
__global__ void sample_kernel(SampleArgs args, float* all_scores, float* all_weights) {
  SharedMemory shared;
  uint64_t* scratch = shared.take<uint64_t>(kReduceScratch);
  float* float_scratch = shared.take<float>(kReduceScratch);
  const int64_t row = blockIdx.x, cols = args.cols;
  const T* logits = static_cast<const T*>(args.logits) + row * cols;
  float *scores = all_scores + row * cols, *weights = all_weights + row * cols;

  const float divisor = args.temperature > 0.0f ? args.temperature : 1.0f;
  for_own(cols, [&](int64_t i) { scores[i] = sampling::canonical(to_float(logits[i]) / divisor); });
  if (args.history != nullptr) {
    block_barrier();
    const int32_t* history = args.history + row * args.history_stride;
    const int64_t length = args.history_lengths == nullptr ? args.history_stride : args.history_lengths[row];
    for_own(length, [&](int64_t i) {  // from the logit: every occurrence of an id writes the same value
      const int32_t id = history[i];
      if (id < 0 || id >= cols) return;
      const float score = sampling::penalised(to_float(logits[id]), args.repetition_penalty);
      scores[id] = sampling::canonical(score / divisor);
    });
  }
  block_barrier();
  float largest = -INFINITY;
  for_own(cols, [&](int64_t i) { largest = Max{}(scores[i], largest); });
  largest = block_max(largest, float_scratch);
  if (!(fabsf(largest) <= FLT_MAX)) {
    if (threadIdx.x == 0) args.tokens[row] = -1;
    return;
  }
  if (args.temperature == 0.0f) {
    uint64_t first = static_cast<uint64_t>(cols);
    for_own(cols, [&](int64_t i) {
      if (scores[i] == largest && static_cast<uint64_t>(i) < first) first = static_cast<uint64_t>(i);
    });
    const auto smaller = [](uint64_t a, uint64_t b) { return a < b ? a : b; };
    first = block_reduce(first, static_cast<uint64_t>(cols), smaller, scratch);
    if (threadIdx.x == 0) args.tokens[row] = static_cast<int32_t>(first);
    return;
  }

  uint32_t lowest = 0;
  if (args.top_k > 0 && args.top_k < cols) {
    lowest = select_key(
        scores, cols, scratch, [](int64_t) { return uint64_t{1}; },
        [&](uint64_t count) { return count >= static_cast<uint64_t>(args.top_k); });
  }
  for_own(cols, [&](int64_t i) { weights[i] = key_of(scores[i]) >= lowest ? likelihood(scores[i] - largest) : 0.0f; });
  if (args.top_p < 1.0f) {
    block_barrier();
    keep_top_p(args, scores, weights, scratch);
  }
  for_own(cols, [&](int64_t i) {
    if (weights[i] < args.min_p) weights[i] = 0.0f;
  });
  block_barrier();

  const WarpRange range(cols);
  uint64_t own = 0;
  for (int64_t i = range.begin + lane_index(); i < range.end; i += 32) own += sampling::fixed_weight(weights[i]);
  const uint64_t total = block_sum(own, scratch);
  const uint64_t drawn = sampling::draw(args.seed, args.steps == nullptr ? 0 : args.steps[row], total);
  uint64_t before = sum_of_warps_before(warp_reduce(own, Sum{}), scratch);
  for (int64_t i = range.begin; i < range.end; i += 32) {
    uint64_t all = 0;
    const int64_t at = i + lane_index();
    const uint64_t weight = at < range.end ? sampling::fixed_weight(weights[at]) : 0;
    const uint64_t start = before + sum_of_lanes_before(weight, all);
    if (drawn >= start && drawn < start + weight) args.tokens[row] = static_cast<int32_t>(at);
    before += all;
  }
}

template <class T>
void sample(const SampleArgs& args, Stream stream) {
  if (args.rows == 0) return;
  const int64_t count = args.rows * args.cols;
  const Workspace<float> scores("sample", count, stream),
      weights("sample", args.weights == nullptr ? count : 0, stream);
  launch("sample", sample_kernel<T>, blocks_for("sample", args.rows, 1), row_threads(args.cols, kThreads),
         shared_bytes<uint64_t>(kReduceScratch) + shared_bytes<float>(kReduceScratch), stream, args, scores.data(),
         args.weights == nullptr ? weights.data() : args.weights);
}

}  // namespace

void add_sampling_rows(KernelTable& table) {
  table.sample.set(DType::f32, sample<float>);
  table.sample.set(DType::bf16, sample<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
