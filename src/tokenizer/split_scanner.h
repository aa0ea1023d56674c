// Hand-written scanners for the split patterns of well-known byte-level BPE tokenizers. They give exactly the matches
// of the regular expressions (which match every character, so that the pieces cover the text); an invalid byte counts
// as a character that is neither letter, number nor white space.
#pragma once

#include <optional>
#include <string_view>

#include "tokenizer/piece_sink.h"

namespace ondol::tokenization {

enum class SplitPattern {
  gpt2,    // GPT-2, RoBERTa, Phi-2
  cl100k,  // GPT-4, Llama 3: any case contractions, up to three digits
  qwen2,   // cl100k with single digits
};

/// The regular expression of a pattern, as tokenizer.json writes it.
const char* split_pattern_regex(SplitPattern pattern);

/// The pattern that a regular expression spells, if it is one of the known ones (or an equivalent spelling).
std::optional<SplitPattern> recognise_split_pattern(std::string_view regex);

void scan_pieces(SplitPattern pattern, std::string_view text, PieceSink& sink);

}  // namespace ondol::tokenization
