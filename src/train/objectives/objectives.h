// The factories of all objectives; see registry.cpp.
#pragma once

#include <ondol/train/objective.h>

#include "base/json_reader.h"

namespace ondol {

/// Causal language modelling: every token predicts the next one.
std::unique_ptr<Objective> make_clm(const JsonReader& section);
/// Masked language modelling, with words, n-grams or spans if wished.
std::unique_ptr<Objective> make_mlm(const JsonReader& section);
/// Extractive question answering.
std::unique_ptr<Objective> make_question_answering(const JsonReader& section);
/// The decoder of an encoder-decoder learns the target of a source.
std::unique_ptr<Objective> make_seq2seq(const JsonReader& section);
/// What the assistant says in conversations, and completions of prompts.
std::unique_ptr<Objective> make_sft(const JsonReader& section);
/// Spans cut out of the encoder's text and predicted by the decoder (T5).
std::unique_ptr<Objective> make_span_corruption(const JsonReader& section);
/// Finished samples whose labels are in the files, as another framework wrote them.
std::unique_ptr<Objective> make_tensors(const JsonReader& section);

}  // namespace ondol
