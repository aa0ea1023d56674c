#include <ondol/generate/sampling.h>

#include <algorithm>
#include <cmath>

#include <ondol/base/error.h>

namespace ondol {

namespace {

/// One row; `weights` as in SampleInputs.
int32_t sample_row(std::span<const float> logits, std::span<const int32_t> ids, const SamplingOptions& options,
                   uint64_t step, Tensor* weights) {
  const int64_t count = static_cast<int64_t>(ids.size());
  ops::SampleInputs inputs;
  inputs.steps = Tensor::from_vector(std::vector<int64_t>{static_cast<int64_t>(step)}, {1});
  inputs.history = Tensor::from_vector(std::vector<int32_t>(ids.begin(), ids.end()), {1, count});
  inputs.weights = weights;
  const std::vector<float> row(logits.begin(), logits.end());
  const Tensor scores = Tensor::from_vector(row, {1, static_cast<int64_t>(row.size())});
  const int32_t token = ops::sample(scores, options, inputs).to_vector<int32_t>().front();
  check_sampled(token);
  return token;
}

}  // namespace

void check_sampled(int32_t token) { ONDOL_CHECK(token >= 0, "cannot sample: the logits are not finite"); }

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
  Tensor weights;
  sample_row(logits, ids, options, 0, &weights);
  std::vector<TokenProbability> kept;
  double total = 0;
  for (const float weight : weights.to_vector<float>()) total += static_cast<double>(weight);
  for (int64_t id = 0; id < weights.numel(); ++id) {
    const double weight = static_cast<double>(weights.data<float>()[id]);
    if (weight > 0) kept.push_back({static_cast<int32_t>(id), weight / total});
  }
  return kept;
}

int32_t sample_token(std::span<const float> logits, std::span<const int32_t> ids, const SamplingOptions& options,
                     uint64_t step) {
  return sample_row(logits, ids, options, step, nullptr);
}

}  // namespace ondol
