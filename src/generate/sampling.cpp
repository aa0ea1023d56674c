#include <ondol/generate/sampling.h>

#include <algorithm>
#include <cmath>

#include <ondol/base/error.h>
#include <ondol/base/philox.h>

namespace ondol {

namespace {

struct Candidate {
  float score;
  int32_t id;
};

bool more_likely(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

void keep_top_k(std::vector<Candidate>& candidates, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(candidates.size())) return;
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(), more_likely);
  const float smallest = candidates[static_cast<size_t>(k - 1)].score;
  std::erase_if(candidates, [smallest](const Candidate& c) { return c.score < smallest; });
}

void keep_top_p(std::vector<Candidate>& candidates, double p, float largest) {
  if (p >= 1.0) return;
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(static_cast<double>(c.score - largest));
  // The kept set is usually small: sort a growing head instead of the whole vocabulary.
  double mass = 0;
  size_t kept = 0, sorted = 0;
  while (kept < candidates.size() && mass < p * total) {
    if (kept == sorted) {
      sorted = std::min(candidates.size(), std::max<size_t>(64, 4 * sorted));
      const auto begin = candidates.begin();
      std::partial_sort(begin + static_cast<ptrdiff_t>(kept), begin + static_cast<ptrdiff_t>(sorted), candidates.end(),
                        more_likely);
    }
    mass += std::exp(static_cast<double>(candidates[kept++].score - largest));
  }
  candidates.resize(std::max<size_t>(kept, 1));
}

}  // namespace

void check_sampling_options(const SamplingOptions& o) {
  const auto check = [](bool good, const char* name, auto value, const char* range) {
    if (!good) throw UsageError(concat(name, " must be ", range, ", got ", value));
  };
  check(o.temperature >= 0.0f && std::isfinite(o.temperature), "temperature", o.temperature, "0 or more");
  check(o.top_k >= 0, "top_k", o.top_k, "0 or more");
  check(o.top_p > 0.0f && o.top_p <= 1.0f, "top_p", o.top_p, "above 0 and at most 1");
  check(o.min_p >= 0.0f && o.min_p <= 1.0f, "min_p", o.min_p, "between 0 and 1");
  check(o.repetition_penalty > 0.0f && std::isfinite(o.repetition_penalty), "repetition_penalty", o.repetition_penalty,
        "above 0");
}

void apply_repetition_penalty(std::span<float> scores, std::span<const int32_t> ids, float penalty) {
  if (penalty == 1.0f) return;
  std::vector<int32_t> distinct(ids.begin(), ids.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const int32_t id : distinct) {
    float& score = scores[static_cast<size_t>(id)];
    score = score < 0.0f ? score * penalty : score / penalty;
  }
}

std::vector<TokenProbability> token_distribution(std::span<const float> logits, std::span<const int32_t> ids,
                                                 const SamplingOptions& options) {
  std::vector<float> scores(logits.begin(), logits.end());
  apply_repetition_penalty(scores, ids, options.repetition_penalty);
  std::vector<Candidate> candidates(scores.size());
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < scores.size(); ++i) {
    candidates[i] = {scores[i] / options.temperature, static_cast<int32_t>(i)};
    largest = std::max(largest, candidates[i].score);
  }
  ONDOL_CHECK(std::isfinite(largest), "cannot sample: the logits are not finite");
  keep_top_k(candidates, options.top_k);
  keep_top_p(candidates, options.top_p, largest);

  std::vector<TokenProbability> kept;
  double total = 0;
  for (const Candidate& c : candidates) {
    const double weight = std::exp(static_cast<double>(c.score - largest));
    if (weight < options.min_p) continue;
    kept.push_back({c.id, weight});
    total += weight;
  }
  for (TokenProbability& token : kept) token.probability /= total;
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return kept;
}

int32_t sample_token(std::span<const float> logits, std::span<const int32_t> ids, const SamplingOptions& options,
                     uint64_t step) {
  if (options.temperature == 0.0f) {
    std::vector<float> scores(logits.begin(), logits.end());
    apply_repetition_penalty(scores, ids, options.repetition_penalty);
    return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  const std::vector<TokenProbability> kept = token_distribution(logits, ids, options);
  const PhiloxBlock block = philox_block({.seed = options.seed}, step);
  const uint64_t bits = (static_cast<uint64_t>(block.word[0]) << 21) ^ (block.word[1] >> 11);
  double left = static_cast<double>(bits) * 0x1p-53;
  for (const TokenProbability& token : kept) {
    left -= token.probability;
    if (left < 0.0) return token.id;
  }
  return kept.back().id;
}

}  // namespace ondol
