// Unigram language model (Kudo 2018): of all ways to cut a piece into tokens, the one whose scores (log-probabilities)
// add up to the most.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/trie.h"

namespace ondol::tokenization {

class Unigram : public Model {
 public:
  struct Config {
    StringTable vocabulary;
    std::vector<double> scores;  // by id
    int32_t unk_id = -1;         // -1: a character without a token is an error
    bool byte_fallback = false;  // "<0xE2>" for the bytes of unknown characters
    bool fuse_unk = true;        // one unknown token for several unknown characters in a row
    std::string source;          // file named in errors

    // SentencePiece:
    std::vector<uint8_t> plain;     // by id: 1 for pieces that text may become; empty: all may
    std::vector<uint8_t> lowest;    // by id: 1 for pieces that count for the score of unknown characters; empty: all
    bool single_precision = false;  // sums of scores are kept as floats
  };
  /// Throws UsageError for scores that are no numbers or of another count, and for an unk_id without a token.
  explicit Unigram(Config config);

  const StringTable& vocabulary() const override { return config_.vocabulary; }
  void encode(std::string_view piece, TokenSink& out) const override;
  std::string_view word_marker() const override { return marker_; }
  std::string to_json(std::span<const AddedToken> further_tokens) const override;

 private:
  void find_best_path(std::string_view piece) const;
  bool words_are_independent() const;

  Config config_;
  Trie trie_;
  double unknown_score_;
  std::array<int32_t, 256> byte_ids_{};
  std::string_view marker_;
};

/// From the "model" part of tokenizer.json with its vocabulary taken out. Special tokens, which are found before the
/// model sees the text, are nothing that text may become.
std::unique_ptr<Model> make_unigram(const Json& spec, const std::vector<std::pair<std::string, double>>& pieces,
                                    const std::vector<AddedToken>& added_tokens, const std::string& file);

}  // namespace ondol::tokenization
