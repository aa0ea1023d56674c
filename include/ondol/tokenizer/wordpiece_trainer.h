// Trains WordPiece tokenizers for BERT's family.
//
//   ondol::WordPieceTrainerOptions options{.vocab_size = 8000};
//   const ondol::Tokenizer tokenizer = ondol::train_wordpiece(next_text, options);
//   tokenizer.save("runs/tokenizer");
//
// The vocabulary is, in order of ids: the special tokens, the characters that words begin with and those inside words
// ("##a"), by code point, and the products of merges. As in Hugging Face's trainer a merge joins the adjacent pair of
// pieces with the largest count in the corpus (byte-pair encoding; no likelihood is computed). The result depends
// neither on the number of threads nor on the order of the texts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct WordPieceTrainerOptions {
  int64_t vocab_size = 30000;  // all of it: special tokens, characters and merges
  int64_t min_frequency = 0;   // a pair seen less often is not merged
  int64_t max_characters =
      1000;  // so many different characters at most, the most frequent; words with others are left out
  bool lowercase = true;
  std::optional<bool> strip_accents;        // as `lowercase` when not given
  std::vector<std::string> special_tokens;  // further ones, after [PAD] [UNK] [CLS] [SEP] [MASK]
};

/// next_text gives one document after another, nothing at the end. Throws UsageError for impossible options and an
/// empty corpus.
Tokenizer train_wordpiece(const std::function<std::optional<std::string>()>& next_text,
                          const WordPieceTrainerOptions& options);

}  // namespace ondol
