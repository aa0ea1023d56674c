// The words of a text, normalised, for shingles and n-grams.
//
//   WordReader reader(text);
//   for (Word word; reader.next(word);) …  // "Don't STOP" gives don, t, stop
//
// A word is a run of letters, marks, digits and connectors; everything else separates. Words are lower-cased and
// brought to NFKC, so that neither case, punctuation, spacing nor full-width and decomposed spellings tell two texts
// apart. In scripts that write no spaces (Han, kana, Thai, Lao, Khmer, Myanmar) every character is a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::clean {

struct Word {
  std::string_view text;  // normalised; valid until the next call
  size_t begin = 0;       // bytes of the original text
  size_t end = 0;
};

class WordReader {
 public:
  explicit WordReader(std::string_view text) : text_(text) {}
  bool next(Word& word);

 private:
  std::string_view text_;
  size_t position_ = 0;
  std::string buffer_;
  std::string composed_;
};

/// A 64-bit hash of each word, in order; replaces what `hashes` held. `ends` too, when given: (begin, end) of each.
void word_hashes(std::string_view text, std::vector<uint64_t>& hashes,
                 std::vector<std::pair<size_t, size_t>>* spans = nullptr);

/// Hashes of all runs of `n` words, from the hashes of words; of a shorter text the one run that it is. Nothing for no
/// words. The last step mixes all bits, so that any 32 of them are good.
void ngram_hashes(const std::vector<uint64_t>& words, size_t n, std::vector<uint64_t>& hashes);

}  // namespace ondol::clean
