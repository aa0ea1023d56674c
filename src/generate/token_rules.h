// What a model's generation configuration forbids and forces (models/model.h: TokenRules), on the scores of one
// sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ondol/models/model.h>

namespace ondol {

/// Where a sequence stands.
struct TokenRulesContext {
  std::span<const int32_t> ids;      // what the decoder has read and made so far
  int64_t prompt_length = 0;         // of ids, not made
  int64_t max_length = 0;            // at which the sequence ends
  std::span<const int32_t> eos_ids;  // none: the text does not end by itself, nor is an end forced
};

/// scores (V), logits or log-probabilities: -infinity where a token is forbidden; where one is forced it gets 0 and all
/// others -infinity. In the order of transformers' processors. True when anything was changed.
bool apply_token_rules(const TokenRules& rules, const TokenRulesContext& context, std::span<float> scores);

}  // namespace ondol
