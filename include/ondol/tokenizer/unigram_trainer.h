// Trains Unigram tokenizers (Kudo 2018, "Subword Regularization").
//
//   ondol::UnigramTrainerOptions options{.vocab_size = 8000};
//   options.roles["eos"] = "</s>";
//   const ondol::Tokenizer tokenizer = ondol::train_unigram(next_text, options);
//
// Candidates are the characters of the corpus and its frequent substrings (repeated substrings of a suffix array, at
// most 16 characters, inside words). Expectation maximisation estimates their probabilities; those whose loss costs the
// likelihood of the corpus least are dropped, a quarter at a time, until vocab_size is left. Ids: special tokens,
// the 256 bytes when there is a byte fallback, pieces by falling probability. The result does not depend on the number
// of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct UnigramTrainerOptions {
  int64_t vocab_size = 8000;  // all of it
  int64_t max_piece_characters = 16;
  int64_t max_candidates = 1000000;          // substrings to start from
  double character_coverage = 0.9995;        // share of the corpus that the characters with a piece make up
  bool byte_fallback = true;                 // the other characters become bytes; otherwise the unknown token
  bool nfkc = false;                         // normalize to NFKC, here and whenever the tokenizer encodes
  std::vector<std::string> special_tokens;   // after <unk>
  std::map<std::string, std::string> roles;  // role ("bos", "eos", "pad", …) to special token
  bool add_bos = false, add_eos = false;
};

/// next_text gives one document after another, nothing at the end. Throws UsageError for impossible options and an
/// empty corpus.
Tokenizer train_unigram(const std::function<std::optional<std::string>()>& next_text,
                        const UnigramTrainerOptions& options);

}  // namespace ondol
