// The factories of all objectives; see registry.cpp. They have a namespace of their own: a family of models may have
// the name of an objective (BART).
#pragma once

#include <ondol/train/objective.h>

#include "base/json_reader.h"

namespace ondol::objectives {

/// A damaged text for the encoder, the original for the decoder (BART).
std::unique_ptr<Objective> make_bart(const JsonReader& section);
/// Labels of texts and pairs of texts, one or several at once.
std::unique_ptr<Objective> make_classification(const JsonReader& section);
/// Causal language modelling: every token predicts the next one.
std::unique_ptr<Objective> make_clm(const JsonReader& section);
/// Documents whose middle is moved to the end and so learnt to be filled in.
std::unique_ptr<Objective> make_fim(const JsonReader& section);
/// Masked language modelling, with words, n-grams or spans if wished.
std::unique_ptr<Objective> make_mlm(const JsonReader& section);
/// Extractive question answering.
std::unique_ptr<Objective> make_question_answering(const JsonReader& section);
/// The decoder of an encoder-decoder learns the target of a source.
std::unique_ptr<Objective> make_seq2seq(const JsonReader& section);
/// What the assistant says in conversations, and completions of prompts.
std::unique_ptr<Objective> make_sft(const JsonReader& section);
/// The rest of a text from its beginning.
std::unique_ptr<Objective> make_prefix_lm(const JsonReader& section);
/// Spans cut out of the encoder's text and predicted by the decoder (T5).
std::unique_ptr<Objective> make_span_corruption(const JsonReader& section);
/// A generator's replaced tokens told from the original ones (ELECTRA).
std::unique_ptr<Objective> make_rtd(const JsonReader& section);
/// Another objective with a teacher's predictions beside its labels.
std::unique_ptr<Objective> make_distillation(const JsonReader& section);
/// Values of texts and pairs of texts.
std::unique_ptr<Objective> make_regression(const JsonReader& section);
/// Finished samples whose labels are in the files, as another framework wrote them.
std::unique_ptr<Objective> make_tensors(const JsonReader& section);
/// A mixture of span corruptions (UL2).
std::unique_ptr<Objective> make_ul2(const JsonReader& section);
/// Labels of words.
std::unique_ptr<Objective> make_token_classification(const JsonReader& section);

}  // namespace ondol::objectives
