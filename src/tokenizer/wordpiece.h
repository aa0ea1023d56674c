// WordPiece (Wu et al. 2016; Devlin et al. 2018): a word is cut into the longest pieces from the left; pieces inside a
// word are spelled with a prefix ("##ing"). A word with a part that no piece covers is the unknown token.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/model.h"
#include "tokenizer/trie.h"

namespace ondol::tokenization {

class WordPiece : public Model {
 public:
  struct Config {
    StringTable vocabulary;
    std::string unk_token = "[UNK]";
    std::string prefix = "##";
    int64_t max_characters = 100;  // a longer word is unknown
    std::string source;            // file named in errors
  };
  /// Throws UsageError when the vocabulary lacks the unknown token.
  explicit WordPiece(Config config);

  const StringTable& vocabulary() const override { return config_.vocabulary; }
  void encode(std::string_view piece, TokenSink& out) const override;
  std::string to_json(std::span<const AddedToken> further_tokens) const override;

 private:
  Config config_;
  Trie trie_;
  Trie::Node inside_;  // the node of the prefix; no piece has it when it is the root
  int32_t unk_id_;
};

/// From the "model" part of tokenizer.json with its vocabulary taken out.
std::unique_ptr<Model> make_wordpiece(const Json& spec, StringTable vocabulary, const std::string& file);

}  // namespace ondol::tokenization
