// The character map of SentencePiece: a double-array trie (darts-clone) from character sequences to their
// replacements.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/normalizer.h"

namespace ondol::tokenization {

class CharacterMap {
 public:
  struct Match {
    size_t length = 0;  // bytes of the text; 0: none
    std::string_view replacement;
  };

  /// `bytes`: the size of the trie (uint32), the trie (uint32 units), the replacements, each ended by a zero byte. No
  /// bytes give a map of nothing. Throws UsageError naming `where`.
  CharacterMap(std::string_view bytes, const std::string& where);

  bool empty() const { return units_.empty(); }
  Match shortest(std::string_view text) const { return match(text, true); }
  Match longest(std::string_view text) const { return match(text, false); }

 private:
  Match match(std::string_view text, bool first) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // ends with a zero byte
};

/// {"type": "Precompiled", "precompiled_charsmap": base64}. Hugging Face tokenizers replace grapheme clusters by their
/// shortest match; with "match": "longest", as SentencePiece itself does, the longest match counts at every place.
std::unique_ptr<Rewriter> make_precompiled_normalizer(const Json& spec, const std::string& where);
Json precompiled_spec(std::string_view character_map);

}  // namespace ondol::tokenization
