#include "tokenizer/wordpiece.h"

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/utf8.h"

namespace ondol::tokenization {

WordPiece::WordPiece(Config config) : config_(std::move(config)) {
  const StringTable& vocabulary = config_.vocabulary;
  unk_id_ = vocabulary.find(config_.unk_token);
  if (unk_id_ < 0) {
    throw UsageError(concat("unk_token \"", config_.unk_token, "\" is not in the vocabulary (", config_.source, ")"));
  }
  std::vector<std::pair<std::string_view, int32_t>> keys;
  keys.reserve(vocabulary.count());
  for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
    if (!vocabulary.text(id).empty()) keys.emplace_back(vocabulary.text(id), id);
  }
  trie_ = Trie(std::move(keys));
  inside_ = trie_.walk(config_.prefix);
}

void WordPiece::encode(std::string_view piece, TokenSink& out) const {
  const size_t before = out.ids.size();
  const auto unknown = [&] {
    out.resize(before);
    out.add(unk_id_, 0, piece.size());
  };
  if (piece.size() > static_cast<size_t>(config_.max_characters)) {
    int64_t characters = 0;
    for (size_t i = 0; i < piece.size(); i += decode_code_point(piece, i).length) ++characters;
    if (characters > config_.max_characters) return unknown();
  }
  for (size_t begin = 0; begin < piece.size();) {
    Trie::Node node = begin == 0 ? Trie::kRoot : inside_;
    if (begin > 0 && inside_ == Trie::kRoot && !config_.prefix.empty()) return unknown();
    int32_t best = Trie::kNone;
    size_t end = begin;
    for (size_t i = begin; i < piece.size(); ++i) {
      node = trie_.child(node, static_cast<uint8_t>(piece[i]));
      if (node == Trie::kRoot) break;
      if (trie_.value(node) < 0) continue;
      best = trie_.value(node);
      end = i + 1;
    }
    if (best < 0) return unknown();
    out.add(best, begin, end);
    begin = end;
  }
}

std::unique_ptr<Model> make_wordpiece(const Json& spec, StringTable vocabulary, const std::string& file) {
  const std::string where = file + ", model";
  WordPiece::Config config;
  config.unk_token = string_at(spec, "unk_token", config.unk_token, where);
  config.prefix = string_at(spec, "continuing_subword_prefix", config.prefix, where);
  if (spec.contains("max_input_chars_per_word")) {
    config.max_characters = integer_at(spec, "max_input_chars_per_word", where);
    if (config.max_characters < 0) {
      throw UsageError(concat("\"max_input_chars_per_word\" must not be negative (", where, ")"));
    }
  }
  config.source = where;
  config.vocabulary = std::move(vocabulary);
  return std::make_unique<WordPiece>(std::move(config));
}

std::string WordPiece::to_json(std::span<const AddedToken> further_tokens) const {
  return concat(R"({"type":"WordPiece","unk_token":)", quoted_json(config_.unk_token),
                R"(,"continuing_subword_prefix":)", quoted_json(config_.prefix), R"(,"max_input_chars_per_word":)",
                config_.max_characters, ",\n\"vocab\":", vocabulary_json(config_.vocabulary, further_tokens), "}");
}

}  // namespace ondol::tokenization
