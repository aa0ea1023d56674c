// A tokenizer as the data layer wants it.
//
//   const Tokenizer tokenizer = load_tokenizer("runs/tokenizer");
//   const TextEncoder encoder = make_text_encoder(tokenizer);
//   prepare_tokens(encoder, {"corpus/*.txt"}, "runs/corpus");
#pragma once

#include <ondol/data/text_encoder.h>
#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

/// Documents end with the tokenizer's "eos" token and begin with the token that the tokenizer itself puts first, if it
/// is "bos". Special tokens spelled in the text are plain text. The fingerprint follows from the vocabulary and from
/// the ids of a fixed text, so that it does not depend on the files that the tokenizer came from.
TextEncoder make_text_encoder(const Tokenizer& tokenizer);

}  // namespace ondol
