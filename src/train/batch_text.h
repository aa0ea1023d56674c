// A prepared batch as a person reads it: what the model is given, and what it is asked.
//
//   sample 7
//     input   the {[MASK] -> cat} sat on the {mat}
//     labels  ...                                           where they are a text of their own
#pragma once

#include <string>

#include <ondol/data/batch.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

/// Braces mark targets: {given -> wanted}, {token} where both are the same, {token: LABEL}; in causal models the tokens
/// that are to be predicted, unless all are. "|" stands between documents; padding is counted. Without a tokenizer ids
/// stand for tokens.
std::string batch_text(const Batch& prepared, const Model& model, const Tokenizer* tokenizer);

}  // namespace ondol
