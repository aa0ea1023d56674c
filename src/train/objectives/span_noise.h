// Spans cut out of a text, as T5's span corruption and UL2's denoisers do it (Raffel et al. 2020; Tay et al. 2022):
//
//   text     Thank you for inviting me to your party last week
//   inputs   Thank you <extra_id_0> me to your party <extra_id_1> week </s>
//   targets  <extra_id_0> for inviting <extra_id_1> last </s>
//
// Numbers of tokens and spans do not depend on chance; where the spans lie does. What is kept comes first, a span last.
#pragma once

#include "base/sample_draws.h"
#include "train/objectives/token_rows.h"

namespace ondol {

struct SpanNoise {
  double density = 0.15;     // share of the tokens that is cut out
  double mean_length = 3.0;  // of a span
  bool single = false;       // one span of all that is cut out: the end of the text

  struct Counts {
    int64_t tokens = 0, spans = 0;  // both 0 where there is nothing to leave
  };
  Counts counts(int64_t tokens) const;

  /// Lengths with a sentinel for each span and the end token.
  int64_t input_length(int64_t tokens) const;
  int64_t target_length(int64_t tokens) const;

  /// As many tokens as make inputs of at most this length.
  int64_t tokens_for(int64_t input_length) const;

  /// Appends to inputs and targets. An end token behind the text is left out first: it comes again behind the
  /// sentinels. Throws Error when there are more spans than sentinels.
  void corrupt(TokenRow tokens, const Vocabulary& vocabulary, SampleDraws& draws, TokenRow& inputs,
               TokenRow& targets) const;
};

/// Throws UsageError unless the tokenizer has an end token and a sentinel for each span of samples of so many tokens.
void require_sentinels(const char* objective, const SpanNoise& noise, int64_t tokens, const ObjectiveContext& context);

}  // namespace ondol
