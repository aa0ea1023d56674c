// The estimation of a Unigram vocabulary from counted words (Kudo 2018).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/piece_counter.h"

namespace ondol::tokenization {

struct ScoredPiece {
  std::string text;
  double score;  // at first the count times the length, later the log-probability
};

struct UnigramLimits {
  int64_t pieces;  // how many are wanted
  int64_t max_piece_characters;
  int64_t max_candidates;
  double character_coverage;
};

/// The characters that have to be pieces, by falling count.
std::vector<ScoredPiece> required_characters(const PieceCounts& words, double coverage);

/// Repeated substrings of the words, by falling score.
std::vector<ScoredPiece> candidate_pieces(const PieceCounts& words, const UnigramLimits& limits,
                                          const std::vector<ScoredPiece>& characters);

/// At most limits.pieces, by falling log-probability, the required characters among them.
std::vector<ScoredPiece> learn_unigram(const PieceCounts& words, const UnigramLimits& limits);

}  // namespace ondol::tokenization
