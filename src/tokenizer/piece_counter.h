// Counts how often each distinct piece of a corpus occurs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/piece_sink.h"
#include "tokenizer/pre_tokenizer.h"

namespace ondol::tokenization {

/// An open-addressing table of pieces, as a sink for pre-tokenizers.
class PieceCounts : public PieceSink {
 public:
  struct Entry {
    uint64_t hash;
    uint64_t begin;  // in the bytes of the table
    uint32_t length;
    int64_t count;
  };

  void piece(std::string_view text) override;
  void add(const PieceCounts& other);

  const std::vector<Entry>& entries() const { return entries_; }
  std::string_view text(const Entry& entry) const { return {bytes_.data() + entry.begin, entry.length}; }

 private:
  void add(std::string_view text, uint64_t hash, int64_t count);
  void grow();

  struct Slot {
    uint32_t tag = 0;    // the upper half of the hash
    int32_t entry = -1;  // -1: free
  };
  std::vector<Slot> slots_ = std::vector<Slot>(size_t{1} << 12);
  std::vector<Entry> entries_;
  std::string bytes_;
};

/// Counts the pieces of texts over the threads of the process.
class CorpusCounter {
 public:
  /// `separators` (special tokens) are no part of any piece. The normalizer may be null.
  CorpusCounter(const PreTokenizer& pre_tokenizer, const Normalizer* normalizer, const AddedTokenMatcher& separators)
      : pre_tokenizer_(pre_tokenizer), normalizer_(normalizer), separators_(separators) {}

  void add(std::string_view text);
  /// The counts of all texts so far.
  const PieceCounts& result() const { return total_; }

 private:
  const PreTokenizer& pre_tokenizer_;
  const Normalizer* normalizer_;
  const AddedTokenMatcher& separators_;
  PieceCounts total_;
};

}  // namespace ondol::tokenization
