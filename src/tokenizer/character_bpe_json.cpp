// The "model" part of tokenizer.json for BPE over characters.
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/bpe_json.h"
#include "tokenizer/character_bpe.h"

namespace ondol::tokenization {

std::unique_ptr<Model> make_character_bpe(const Json& spec, StringTable vocabulary,
                                          const std::vector<std::pair<std::string, std::string>>& merges,
                                          const std::string& file) {
  const std::string where = file + ", model";
  CharacterBpe::Config config;
  config.ignore_merges = bool_at(spec, "ignore_merges", false, where);
  config.fuse_unk = bool_at(spec, "fuse_unk", false, where);
  config.byte_fallback = bool_at(spec, "byte_fallback", false, where);
  config.unk_token = string_at(spec, "unk_token", "", where);
  config.prefix = string_at(spec, "continuing_subword_prefix", "", where);
  config.suffix = string_at(spec, "end_of_word_suffix", "", where);
  config.source = where;
  config.merges = numbered_merges(spec, vocabulary, merges, where);
  config.vocabulary = std::move(vocabulary);
  return std::make_unique<CharacterBpe>(std::move(config));
}

std::string CharacterBpe::to_json(std::span<const AddedToken> further_tokens) const {
  const StringTable& vocabulary = config_.vocabulary;
  const auto text = [](const std::string& value) { return value.empty() ? "null" : quoted_json(value); };
  const auto flag = [](bool value) { return value ? "true" : "false"; };
  std::string out = concat(R"({"type":"BPE","dropout":null,"unk_token":)", text(config_.unk_token),
                           R"(,"continuing_subword_prefix":)", text(config_.prefix), R"(,"end_of_word_suffix":)",
                           text(config_.suffix), R"(,"fuse_unk":)", flag(config_.fuse_unk), R"(,"byte_fallback":)",
                           flag(config_.byte_fallback), R"(,"ignore_merges":)", flag(config_.ignore_merges),
                           ",\n\"vocab\":", vocabulary_json(vocabulary, further_tokens), ",\n\"merges\":[");
  const char* separator = "\n";
  for (const BpeMerge& merge : config_.merges) {
    if (merge.left >= vocabulary.id_limit() || merge.right >= vocabulary.id_limit()) continue;
    const std::string_view left = vocabulary.text(merge.left), right = vocabulary.text(merge.right);
    out += separator;
    if ((std::string(left) += right).find(' ') == std::string::npos) {
      out += quoted_json((std::string(left) += ' ') += right);  // the spelling that every reader knows
    } else {
      out += ((('[' + quoted_json(left)) += ',') += quoted_json(right)) += ']';
    }
    separator = ",\n";
  }
  return out + "]}";
}

}  // namespace ondol::tokenization
