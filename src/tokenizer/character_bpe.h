// Byte-pair encoding over characters (Sennrich et al. 2016), as Llama, Mistral and other SentencePiece models use it: a
// piece starts as its characters; those that are not in the vocabulary become byte tokens or the unknown token.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/model.h"
#include "tokenizer/pair_table.h"
#include "tokenizer/trie.h"

namespace ondol::tokenization {

class CharacterBpe : public Model {
 public:
  struct Config {
    StringTable vocabulary;
    std::vector<BpeMerge> merges;  // ids of the vocabulary, or from first_extra_id on
    std::string unk_token;         // empty: what is unknown is left out
    bool fuse_unk = false;         // one unknown token for several unknown characters in a row
    bool byte_fallback = false;    // "<0xE2>" for the bytes of unknown characters
    bool ignore_merges = false;    // a piece that is a token as a whole is that token, whatever the merges say
    std::string prefix;  // of characters that do not begin a piece ("##"); merges drop that of their right side
    std::string suffix;  // of the character that ends a piece ("</w>")
    std::string source;  // file named in errors

    // SentencePiece has pieces that never come out of merges, and characters that are no pieces but take part in them.
    std::vector<uint8_t> plain;                 // by id: 1 for pieces that text may become; empty: all may
    std::vector<std::string> extra_characters;  // ids from vocabulary.id_limit() on
    std::vector<int32_t> user_defined;          // pieces that are one token wherever their text is
    std::vector<std::pair<int32_t, std::pair<int32_t, int32_t>>> unused;  // pieces to be taken apart into two
  };
  /// Throws UsageError when the product of a merge or the unknown token is not in the vocabulary.
  explicit CharacterBpe(Config config);

  const StringTable& vocabulary() const override { return config_.vocabulary; }
  void encode(std::string_view piece, TokenSink& out) const override;
  std::string_view word_marker() const override { return marker_; }
  std::string to_json(std::span<const AddedToken> further_tokens) const override;

 private:
  struct Symbol {
    int32_t id;  // of the vocabulary; beyond it an extra character, or a user-defined piece; -1: an unknown character
    uint32_t length;
  };
  struct Output;

  void split_characters(std::string_view piece, std::vector<Symbol>& symbols) const;
  int32_t character_id(std::string_view character, bool first, bool last) const;
  void emit(int32_t id, size_t length, std::string_view piece, Output& output) const;
  bool words_are_independent() const;

  Config config_;
  int32_t unk_id_ = -1;
  std::array<int32_t, 256> byte_ids_{};
  std::array<int32_t, 128> ascii_ids_{};  // of characters without prefix and suffix
  bool plain_characters_;                 // neither prefix nor suffix
  StringTable extra_;
  int32_t first_user_defined_;  // symbols from here on stand for user_defined
  Trie user_defined_;
  std::vector<std::pair<int32_t, int32_t>> parts_;  // of unused pieces, by id; -1: used
  PairTable merges_;
  std::string_view marker_;
};

/// From the "model" part of tokenizer.json with its vocabulary and merges taken out.
std::unique_ptr<Model> make_character_bpe(const Json& spec, StringTable vocabulary,
                                          const std::vector<std::pair<std::string, std::string>>& merges,
                                          const std::string& file);

/// "<0xE2>"
std::string byte_token(uint8_t byte);

}  // namespace ondol::tokenization
