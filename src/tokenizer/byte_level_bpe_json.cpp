// The "model" part of tokenizer.json for byte-level BPE.
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/bpe_json.h"
#include "tokenizer/byte_level_bpe.h"

namespace ondol::tokenization {

std::unique_ptr<Model> make_byte_level_bpe(const Json& spec, StringTable vocabulary,
                                           const std::vector<std::pair<std::string, std::string>>& merges,
                                           const std::string& file) {
  const std::string where = file + ", model";
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!string_at(spec, affix, "", where).empty()) {
      throw UsageError(concat('"', affix, "\" is not supported for byte-level BPE (", where, ")"));
    }
  }
  if (bool_at(spec, "byte_fallback", false, where)) {
    throw UsageError(concat("\"byte_fallback\" makes no sense for byte-level BPE (", where, ")"));
  }
  ByteLevelBpe::Config config;
  config.ignore_merges = bool_at(spec, "ignore_merges", false, where);
  config.unk_token = string_at(spec, "unk_token", "", where);
  config.source = where;
  config.merges = numbered_merges(spec, vocabulary, merges, where);
  config.vocabulary = std::move(vocabulary);
  return std::make_unique<ByteLevelBpe>(std::move(config));
}

std::string ByteLevelBpe::to_json(std::span<const AddedToken> further_tokens) const {
  const StringTable& vocabulary = config_.vocabulary;
  std::string out = concat(R"({"type":"BPE","dropout":null,"unk_token":)",
                           config_.unk_token.empty() ? "null" : quoted_json(config_.unk_token),
                           R"(,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,)",
                           R"("byte_fallback":false,"ignore_merges":)", config_.ignore_merges ? "true" : "false",
                           ",\n\"vocab\":", vocabulary_json(vocabulary, further_tokens), ",\n\"merges\":[");
  const char* separator = "\n";
  std::string pair;
  for (const BpeMerge& merge : config_.merges) {
    // Tokens in the byte alphabet hold no space, so that the short spelling, which every reader knows, is unambiguous.
    out += separator;
    pair = vocabulary.text(merge.left);
    pair += ' ';
    pair += vocabulary.text(merge.right);
    out += quoted_json(pair);
    separator = ",\n";
  }
  return out + "]}";
}

}  // namespace ondol::tokenization
