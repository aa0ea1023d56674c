#include "train/objectives/span_noise.h"

#include <algorithm>
#include <cmath>

namespace ondol {

namespace {

/// Cuts `items` into `parts` of at least one each, all ways equally likely.
std::vector<int64_t> random_parts(int64_t items, int64_t parts, SampleDraws& draws) {
  std::vector<uint8_t> begins(static_cast<size_t>(items - 1), 0);  // whether item i + 1 begins a part
  std::fill_n(begins.begin(), parts - 1, uint8_t{1});
  draws.shuffle(begins);
  std::vector<int64_t> lengths = {1};
  for (const uint8_t begin : begins) {
    if (begin != 0) {
      lengths.push_back(1);
    } else {
      ++lengths.back();
    }
  }
  return lengths;
}

}  // namespace

SpanNoise::Counts SpanNoise::counts(int64_t tokens) const {
  if (tokens < 2) return {};
  Counts noise;
  noise.tokens = std::clamp<int64_t>(std::llrint(static_cast<double>(tokens) * density), 1, tokens - 1);
  if (single) return {noise.tokens, 1};
  const int64_t most = std::min(noise.tokens, tokens - noise.tokens);
  noise.spans = std::clamp<int64_t>(std::llrint(static_cast<double>(noise.tokens) / mean_length), 1, most);
  return noise;
}

int64_t SpanNoise::input_length(int64_t tokens) const {
  const Counts noise = counts(tokens);
  return tokens - noise.tokens + noise.spans + 1;
}

int64_t SpanNoise::target_length(int64_t tokens) const {
  const Counts noise = counts(tokens);
  return noise.tokens + noise.spans + 1;
}

int64_t SpanNoise::tokens_for(int64_t wanted) const {
  int64_t tokens = wanted;
  while (input_length(tokens + 1) <= wanted) ++tokens;
  while (tokens > 2 && input_length(tokens) > wanted) --tokens;
  // As T5's code does: with half of the tokens cut out, targets are not longer than inputs.
  if (density == 0.5 && !single && tokens > 2 && target_length(tokens) > wanted) --tokens;
  return tokens;
}

void SpanNoise::corrupt(TokenRow tokens, const Vocabulary& vocabulary, SampleDraws& draws, TokenRow& inputs,
                        TokenRow& targets) const {
  const int32_t end = *vocabulary.eos_id;
  if (!tokens.empty() && tokens.back() == end) tokens.pop_back();
  const Counts noise = counts(static_cast<int64_t>(tokens.size()));
  ONDOL_CHECK(noise.spans <= static_cast<int64_t>(vocabulary.sentinels.size()), "a sample of ", tokens.size(),
              " tokens has ", noise.spans, " spans, the tokenizer has ", vocabulary.sentinels.size(), " sentinels");
  if (noise.spans > 0) {
    const auto cut = random_parts(noise.tokens, noise.spans, draws);
    const auto kept = random_parts(static_cast<int64_t>(tokens.size()) - noise.tokens, noise.spans, draws);
    auto next = tokens.begin();
    for (size_t span = 0; span < cut.size(); ++span) {
      inputs.insert(inputs.end(), next, next + kept[span]);
      next += kept[span];
      inputs.push_back(vocabulary.sentinels[span]);
      targets.push_back(vocabulary.sentinels[span]);
      targets.insert(targets.end(), next, next + cut[span]);
      next += cut[span];
    }
  } else {
    inputs.insert(inputs.end(), tokens.begin(), tokens.end());
  }
  inputs.push_back(end);
  targets.push_back(end);
}

void require_sentinels(const char* objective, const SpanNoise& noise, int64_t tokens, const ObjectiveContext& context) {
  if (context.vocabulary == nullptr || context.vocabulary->sentinels.empty()) {
    throw UsageError(concat("objective \"", objective, "\" needs a tokenizer with sentinels (tokenizer.path)"),
                     "sentinels are the tokens <extra_id_0>, <extra_id_1>, ...");
  }
  require_end_token(objective, context);
  const int64_t spans = noise.counts(tokens).spans;
  const auto sentinels = static_cast<int64_t>(context.vocabulary->sentinels.size());
  if (spans > sentinels) {
    throw UsageError(concat("objective \"", objective, "\": samples of ", tokens, " tokens have ", spans,
                            " spans, the tokenizer has ", sentinels, " sentinels"),
                     "shorten data.sequence_length, or make the spans longer (mean_span_length)");
  }
}

}  // namespace ondol
