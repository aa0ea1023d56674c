// From logits to the next token.
//
//   int32_t next = sample_token(logits, ids_so_far, {.temperature = 0.8f, .top_p = 0.95f, .seed = 1}, step);
//
// The settings act in the order of transformers' logits processors: repetition penalty, temperature, top-k, top-p,
// min-p, then a draw from what is left, renormalised. The draw of step n uses element n of the Philox sequence of the
// seed, so that a result depends on neither batch nor thread count.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ondol {

struct SamplingOptions {
  float temperature = 0.0f;         // 0: the most likely token (greedy), the settings below but the penalty are unused
  int64_t top_k = 0;                // > 0: only the k most likely tokens (and ties with the last of them)
  float top_p = 1.0f;               // only the smallest set of most likely tokens that holds this probability
  float min_p = 0.0f;               // only tokens at least min_p times as likely as the most likely one
  float repetition_penalty = 1.0f;  // of tokens seen before: positive logits / penalty, negative * penalty (CTRL 2019)
  uint64_t seed = 0;
};

/// Throws UsageError for a value out of range, naming it.
void check_sampling_options(const SamplingOptions& options);

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
