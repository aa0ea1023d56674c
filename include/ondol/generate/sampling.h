// From the logits of one sequence on the host to its next token; ops/sampling.h has the rules, and the form for batches
// on any device.
//
//   int32_t next = sample_token(logits, ids_so_far, {.temperature = 0.8f, .top_p = 0.95f, .seed = 1}, step);
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ondol/ops/sampling.h>

namespace ondol {

/// Throws UsageError for a value out of range, naming it.
void check_sampling_options(const SamplingOptions& options);

/// Throws the error of a token that ops::sample could not choose (-1).
void check_sampled(int32_t token);

/// In place, once for each distinct id.
void apply_repetition_penalty(std::span<float> scores, std::span<const int32_t> ids, float penalty);

struct TokenProbability {
  int32_t id = 0;
  double probability = 0.0;
};

/// What sample_token draws from, by increasing id; temperature > 0.
std::vector<TokenProbability> token_distribution(std::span<const float> logits, std::span<const int32_t> ids,
                                                 const SamplingOptions& options);

/// logits (V); `ids` are prompt and tokens so far; `step` counts the tokens generated so far.
int32_t sample_token(std::span<const float> logits, std::span<const int32_t> ids, const SamplingOptions& options,
                     uint64_t step);

}  // namespace ondol
