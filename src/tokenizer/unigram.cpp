#include "tokenizer/unigram.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/character_bpe.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

/// How much less likely than the least likely piece an unknown character is, as SentencePiece has it.
constexpr double kUnknownPenalty = 10.0;
constexpr std::string_view kMarker = "\u2581";

/// The best way to the end of a token.
struct PathEnd {
  double score;
  uint32_t begin;
  int32_t id;  // kNowhere: no path leads here
};
constexpr int32_t kNowhere = -2;

/// Memory of one thread.
std::vector<PathEnd>& path_ends() {
  thread_local std::vector<PathEnd> ends;
  return ends;
}

}  // namespace

Unigram::Unigram(Config config) : config_(std::move(config)) {
  const StringTable& vocabulary = config_.vocabulary;
  if (config_.scores.size() < static_cast<size_t>(vocabulary.id_limit())) {
    throw UsageError(
        concat(config_.scores.size(), " scores for ", vocabulary.id_limit(), " pieces (", config_.source, ")"));
  }
  if (config_.unk_id >= 0 && !vocabulary.contains(config_.unk_id)) {
    throw UsageError(concat("unk_id ", config_.unk_id, " is outside the vocabulary of ", vocabulary.id_limit(), " (",
                            config_.source, ")"));
  }
  std::vector<uint8_t> is_byte(static_cast<size_t>(vocabulary.id_limit()), 0);  // no text becomes these
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = config_.byte_fallback ? vocabulary.find(byte_token(static_cast<uint8_t>(byte))) : -1;
    if (byte_ids_[byte] >= 0) is_byte[static_cast<size_t>(byte_ids_[byte])] = 1;
  }
  std::vector<std::pair<std::string_view, int32_t>> keys;
  double least = std::numeric_limits<double>::infinity();
  for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
    const auto at = static_cast<size_t>(id);
    if (!vocabulary.contains(id)) continue;
    if (!std::isfinite(config_.scores[at])) {
      throw UsageError(concat("the score of \"", vocabulary.text(id), "\" is not finite (", config_.source, ")"));
    }
    if (config_.lowest.empty() || config_.lowest[at] != 0) least = std::min(least, config_.scores[at]);
    const bool plain = is_byte[at] == 0 && (config_.plain.empty() || config_.plain[at] != 0);
    if (plain && !vocabulary.text(id).empty()) keys.emplace_back(vocabulary.text(id), id);
  }
  trie_ = Trie(std::move(keys));
  unknown_score_ = (std::isfinite(least) ? least : 0) - kUnknownPenalty;
  if (config_.single_precision) unknown_score_ = static_cast<float>(unknown_score_);
  if (words_are_independent()) marker_ = kMarker;
}

/// True when no token reaches over the beginning of a run of markers. Floats are added up from the beginning of the
/// whole text, and their rounding may decide between equals.
bool Unigram::words_are_independent() const {
  if (config_.single_precision || trie_.value(trie_.walk(kMarker)) < 0) return false;
  for (int32_t id = 0; id < config_.vocabulary.id_limit(); ++id) {
    const std::string_view text = config_.vocabulary.text(id);
    for (size_t at = text.find(kMarker, 1); at != text.npos; at = text.find(kMarker, at + 1)) {
      if (at < kMarker.size() || text.substr(at - kMarker.size(), kMarker.size()) != kMarker) return false;
    }
  }
  return true;
}

void Unigram::find_best_path(std::string_view piece) const {
  std::vector<PathEnd>& ends = path_ends();
  ends.assign(piece.size() + 1, {0, 0, kNowhere});
  ends[0].id = -1;
  for (size_t begin = 0; begin < piece.size();) {
    const double score_here = ends[begin].score;
    const size_t character = decode_code_point(piece, begin).length;
    const auto propose = [&](size_t end, double score, int32_t id) {
      const double total = score + score_here;
      PathEnd& target = ends[end];
      if (target.id == kNowhere || total > target.score) {
        // SentencePiece compares before it rounds, which decides between equals.
        target = {config_.single_precision ? static_cast<float>(total) : total, static_cast<uint32_t>(begin), id};
      }
    };
    bool known = false;
    Trie::Node node = Trie::kRoot;
    for (size_t i = begin; i < piece.size(); ++i) {
      node = trie_.child(node, static_cast<uint8_t>(piece[i]));
      if (node == Trie::kRoot) break;
      const int32_t id = trie_.value(node);
      if (id < 0) continue;
      propose(i + 1, config_.scores[static_cast<size_t>(id)], id);
      known = known || i + 1 - begin == character;
    }
    if (!known) propose(begin + character, unknown_score_, -1);
    begin += character;
  }
}

void Unigram::encode(std::string_view piece, TokenSink& out) const {
  if (piece.size() >= UINT32_MAX) throw Error(concat("a piece of ", piece.size(), " bytes is too long to encode"));
  find_best_path(piece);
  const std::vector<PathEnd>& ends = path_ends();
  thread_local std::vector<size_t> path;  // where tokens end, from the last to the first
  path.clear();
  for (size_t end = piece.size(); end > 0; end = ends[end].begin) {
    const bool fused = config_.fuse_unk && !path.empty() && ends[end].id < 0 && ends[path.back()].id < 0;
    if (!fused) path.push_back(end);
  }
  size_t begin = 0;
  for (size_t i = path.size(); i-- > 0;) {
    const size_t end = path[i];
    const int32_t id = ends[end].id;
    if (id >= 0) {
      out.add(id, begin, end);
    } else {
      const std::string_view text = piece.substr(begin, end - begin);
      const bool bytes =
          std::all_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
      if (bytes) {
        for (const char c : text) out.add(byte_ids_[static_cast<uint8_t>(c)], begin, end);
      } else if (config_.unk_id >= 0) {
        out.add(config_.unk_id, begin, end);
      } else {
        throw Error(concat("cannot encode \"", text, "\": no token for it and no unk_id (", config_.source, ")"));
      }
    }
    begin = end;
  }
}

std::unique_ptr<Model> make_unigram(const Json& spec, const std::vector<std::pair<std::string, double>>& pieces,
                                    const std::vector<AddedToken>& added_tokens, const std::string& file) {
  const std::string where = file + ", model";
  if (pieces.empty()) throw UsageError(concat("the vocabulary is empty (", where, ".vocab)"));
  if (pieces.size() >= INT32_MAX) throw UsageError(concat("the vocabulary is too large (", where, ".vocab)"));
  Unigram::Config config;
  config.vocabulary.reserve(pieces.size());
  config.scores.reserve(pieces.size());
  for (const auto& [piece, score] : pieces) {
    if (!config.vocabulary.add(static_cast<int32_t>(config.scores.size()), piece)) {
      throw UsageError(concat("token \"", piece, "\" appears twice (", where, ".vocab)"));
    }
    config.scores.push_back(score);
  }
  if (const auto unk = spec.find("unk_id"); unk != spec.end() && !unk->is_null()) {
    const int64_t id = integer_at(spec, "unk_id", where);
    if (id < 0 || id >= static_cast<int64_t>(pieces.size())) {
      throw UsageError(concat("unk_id ", id, " is outside the vocabulary of ", pieces.size(), " (", where, ")"));
    }
    config.unk_id = static_cast<int32_t>(id);
  }
  config.plain.assign(pieces.size(), 1);
  for (const AddedToken& token : added_tokens) {
    const int32_t id = token.special ? config.vocabulary.find(token.content) : -1;
    if (id >= 0) config.plain[static_cast<size_t>(id)] = 0;
  }
  config.byte_fallback = bool_at(spec, "byte_fallback", false, where);
  config.single_precision = bool_at(spec, "single_precision", false, where);  // of our own; others do not mind it
  config.source = where;
  return std::make_unique<Unigram>(std::move(config));
}

std::string Unigram::to_json(std::span<const AddedToken> further_tokens) const {
  std::string out =
      concat(R"({"type":"Unigram","unk_id":)", config_.unk_id < 0 ? "null" : std::to_string(config_.unk_id),
             R"(,"byte_fallback":)", config_.byte_fallback ? "true" : "false",
             config_.single_precision ? R"(,"single_precision":true)" : "", ",\n\"vocab\":[");
  const char* separator = "\n";
  const auto entry = [&](std::string_view text, double score) {
    char number[32];
    const auto end = std::to_chars(number, number + sizeof(number), score == 0 ? 0 : score).ptr;  // no "-0"
    ((((out += separator) += '[') += quoted_json(text)) += ',') +=
        std::string_view(number, static_cast<size_t>(end - number));
    out += ']';
    separator = ",\n";
  };
  int32_t id = 0;
  for (; id < config_.vocabulary.id_limit(); ++id)
    entry(config_.vocabulary.text(id), config_.scores[static_cast<size_t>(id)]);
  for (const AddedToken& token : further_tokens) {
    // Ids are places in the list.
    for (; id < token.id; ++id) entry(concat("<hole ", id, ">"), 0);
    entry(token.content, 0);
    ++id;
  }
  return out + "]}";
}

}  // namespace ondol::tokenization
