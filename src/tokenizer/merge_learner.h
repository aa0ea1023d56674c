// Learns the merges of byte-pair encoding from counted pieces.
//
// Pieces lie one after another in a doubly linked list of symbols. Every adjacent pair knows its count and the places
// where it was seen; a merge visits only the places of its pair, so that the whole costs as much as there are places,
// and never a pass over the corpus. Counts in the heap may be out of date: they only shrink, so an entry found
// to be too large when it is taken goes back with its present count.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <ondol/tokenizer/bpe_trainer.h>

#include "tokenizer/piece_counter.h"
#include "tokenizer/string_table.h"

namespace ondol::tokenization {

struct LearnedMerge {
  int32_t left, right, product;
};

struct MergeLimits {
  int64_t vocab_size;
  int64_t min_count;         // at least 1
  int64_t max_token_length;  // bytes, 0: none
  BpeTieBreak tie_break;
};

/// Words as sequences of token ids.
struct WeightedWords {
  std::vector<int32_t> symbols;  // of all words, one after another
  std::vector<uint32_t> lengths;
  std::vector<int64_t> counts;
};

/// Pieces byte by byte; `tokens` has all 256 single bytes.
WeightedWords words_of_bytes(const PieceCounts& pieces, const StringTable& tokens);

/// `tokens` holds the texts of the vocabulary so far under their ids and receives the products, from which the `prefix`
/// of the right side is left out; `next_id` is the first free id.
std::vector<LearnedMerge> learn_merges(WeightedWords words, const MergeLimits& limits, int32_t next_id,
                                       StringTable& tokens, std::string_view prefix = {});

}  // namespace ondol::tokenization
