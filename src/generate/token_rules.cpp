#include "generate/token_rules.h"

#include <algorithm>
#include <limits>

namespace ondol {

namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

bool forbid(std::span<float> scores, int32_t id) {
  if (id < 0 || static_cast<size_t>(id) >= scores.size()) return false;
  scores[static_cast<size_t>(id)] = kForbidden;
  return true;
}

/// Tokens that would end a run of n tokens which is there already.
bool forbid_repeats(std::span<const int32_t> ids, size_t n, std::span<float> scores) {
  if (n == 0 || ids.size() + 1 < n) return false;
  const std::span<const int32_t> last = ids.last(n - 1);
  bool changed = false;
  for (size_t begin = 0; begin + n <= ids.size(); ++begin) {
    if (std::equal(last.begin(), last.end(), ids.begin() + static_cast<ptrdiff_t>(begin))) {
      changed |= forbid(scores, ids[begin + n - 1]);
    }
  }
  return changed;
}

void force(std::span<const int32_t> forced, std::span<float> scores) {
  std::fill(scores.begin(), scores.end(), kForbidden);
  for (const int32_t id : forced) {
    if (id >= 0 && static_cast<size_t>(id) < scores.size()) scores[static_cast<size_t>(id)] = 0.0f;
  }
}

}  // namespace

bool apply_token_rules(const TokenRules& rules, const TokenRulesContext& context, std::span<float> scores) {
  const auto length = static_cast<int64_t>(context.ids.size());
  bool changed = forbid_repeats(context.ids, static_cast<size_t>(rules.no_repeat_ngram_size), scores);
  if (length < rules.min_length || length - context.prompt_length < rules.min_new_tokens) {
    for (const int32_t id : context.eos_ids) changed |= forbid(scores, id);
  }
  if (rules.forced_bos_token_id && length == 1) {
    force({&*rules.forced_bos_token_id, 1}, scores);
    changed = true;
  }
  if (!context.eos_ids.empty() && !rules.forced_eos_token_ids.empty() && length == context.max_length - 1) {
    force(rules.forced_eos_token_ids, scores);
    changed = true;
  }
  return changed;
}

}  // namespace ondol
