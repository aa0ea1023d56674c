// SentencePiece tokenizers: models and components made from pieces, scores and types.
#include <algorithm>
#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/character_bpe.h"
#include "tokenizer/precompiled_normalizer.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/unigram.h"
#include "tokenizer/utf8.h"

namespace ondol {

namespace tokenization {

namespace {

/// Merges of a long piece are looked for at every place of it.
constexpr size_t kMaxPieceBytes = 1024;
constexpr const char* kMarker = "\u2581";

/// Pieces under their ids with what follows from their types.
struct Pieces {
  StringTable vocabulary;
  std::vector<float> scores;
  std::vector<PieceType> types;
  std::vector<uint8_t> plain;  // 1: text may become this piece
  int32_t unk_id = -1;
  bool has_bytes = false;

  bool is(int32_t id, PieceType type) const { return types[static_cast<size_t>(id)] == type; }
};

bool is_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x")) return false;
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_token(static_cast<uint8_t>(byte)) == text) return true;
  }
  return false;
}

Pieces check_pieces(const SentencePieceParts& parts, const std::string& name) {
  const size_t count = parts.tokens.size();
  if (count == 0 || count >= INT32_MAX) throw UsageError(concat(count, " pieces (", name, ")"));
  if (parts.scores.size() != count || (!parts.types.empty() && parts.types.size() != count)) {
    throw UsageError(
        concat(count, " pieces with ", parts.scores.size(), " scores and ", parts.types.size(), " types (", name, ")"));
  }
  Pieces pieces;
  pieces.scores = parts.scores;
  pieces.types = parts.types;
  if (pieces.types.empty()) {
    for (const std::string& token : parts.tokens) {
      pieces.types.push_back(is_byte_token(token) ? PieceType::byte : PieceType::normal);
    }
  }
  pieces.vocabulary.reserve(count);
  pieces.plain.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string where = concat(name, ", piece ", i);
    const std::string& token = parts.tokens[i];
    if (token.empty()) throw UsageError(concat("the piece is empty (", where, ")"));
    if (!is_utf8(token)) throw UsageError(concat("the piece is not UTF-8 (", where, ")"));
    if (token.size() > kMaxPieceBytes) throw UsageError(concat("a piece of ", token.size(), " bytes (", where, ")"));
    if (!std::isfinite(pieces.scores[i])) throw UsageError(concat("the score is not finite (", where, ")"));
    if (!pieces.vocabulary.add(id, token)) throw UsageError(concat("\"", token, "\" appears twice (", where, ")"));
    const PieceType type = pieces.types[i];
    if (type < PieceType::normal || type > PieceType::byte) {
      throw UsageError(concat("piece type ", static_cast<int32_t>(type), " is not known (", where, ")"));
    }
    pieces.plain[i] = type == PieceType::normal || type == PieceType::user_defined || type == PieceType::unused;
    if (type == PieceType::unknown && pieces.unk_id < 0) pieces.unk_id = id;
    pieces.has_bytes = pieces.has_bytes || type == PieceType::byte;
  }
  return pieces;
}

/// Two adjacent symbols merge when together they are a piece, that of the highest score first.
std::unique_ptr<Model> make_bpe(Pieces pieces, const std::string& name) {
  CharacterBpe::Config config;
  const StringTable& vocabulary = pieces.vocabulary;
  const int32_t limit = vocabulary.id_limit();
  const auto piece_id = [&](std::string_view text) {
    const int32_t id = vocabulary.find(text);
    return id >= 0 && pieces.plain[static_cast<size_t>(id)] != 0 ? id : -1;
  };
  StringTable extra;
  for (int32_t id = 0; id < limit; ++id) {
    if (pieces.plain[static_cast<size_t>(id)] == 0) continue;
    const std::string_view text = vocabulary.text(id);
    for (size_t i = 0; i < text.size();) {
      const std::string_view character = text.substr(i, decode_code_point(text, i).length);
      if (piece_id(character) < 0) extra.add(limit + static_cast<int32_t>(extra.count()), character);
      i += character.size();
    }
  }
  std::vector<float> distinct = pieces.scores;
  std::sort(distinct.begin(), distinct.end(), std::greater<>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const auto symbol_id = [&](std::string_view text) {
    const int32_t id = piece_id(text);
    return id >= 0 ? id : extra.find(text);
  };
  for (int32_t id = 0; id < limit; ++id) {
    if (pieces.plain[static_cast<size_t>(id)] == 0) continue;
    const std::string_view text = vocabulary.text(id);
    const float score = pieces.scores[static_cast<size_t>(id)];
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(distinct.begin(), distinct.end(), score, std::greater<>()) - distinct.begin());
    const size_t first = config.merges.size();
    for (size_t cut = decode_code_point(text, 0).length; cut < text.size();
         cut += decode_code_point(text, cut).length) {
      const int32_t left = symbol_id(text.substr(0, cut));
      const int32_t right = left < 0 ? -1 : symbol_id(text.substr(cut));
      if (right >= 0) config.merges.push_back({left, right, rank});
    }
    if (pieces.is(id, PieceType::unused) && config.merges.size() > first) {
      config.unused.emplace_back(id, std::pair(config.merges[first].left, config.merges[first].right));
    }
    if (pieces.is(id, PieceType::user_defined)) config.user_defined.push_back(id);
  }
  // The order in which transformers' converter writes them, for tokenizer.json.
  std::stable_sort(config.merges.begin(), config.merges.end(),
                   [](const BpeMerge& a, const BpeMerge& b) { return a.rank < b.rank; });
  for (int32_t id = limit; id < limit + static_cast<int32_t>(extra.count()); ++id) {
    config.extra_characters.emplace_back(extra.text(id));
  }
  if (pieces.unk_id >= 0) config.unk_token = vocabulary.text(pieces.unk_id);
  config.fuse_unk = true;
  config.byte_fallback = pieces.has_bytes;
  config.source = name;
  config.plain = std::move(pieces.plain);
  config.vocabulary = std::move(pieces.vocabulary);
  return std::make_unique<CharacterBpe>(std::move(config));
}

std::unique_ptr<Model> make_unigram_model(Pieces pieces, const std::string& name) {
  Unigram::Config config;
  float highest = -INFINITY;
  for (size_t i = 0; i < pieces.scores.size(); ++i) {
    const bool normal = pieces.types[i] == PieceType::normal;
    config.lowest.push_back(normal);
    if (normal) highest = std::max(highest, pieces.scores[i]);
  }
  for (size_t i = 0; i < pieces.scores.size(); ++i) {
    float score = pieces.scores[i];
    if (pieces.types[i] == PieceType::user_defined) {
      // Better than any way to cut the same text.
      const auto length = static_cast<float>(pieces.vocabulary.text(static_cast<int32_t>(i)).size());
      score = static_cast<float>(length * highest - 0.1);
    }
    config.scores.push_back(score);
    if (pieces.types[i] == PieceType::unused) pieces.plain[i] = 0;
  }
  config.unk_id = pieces.unk_id;
  config.byte_fallback = pieces.has_bytes;
  config.single_precision = true;
  config.source = name;
  config.plain = std::move(pieces.plain);
  config.vocabulary = std::move(pieces.vocabulary);
  return std::make_unique<Unigram>(std::move(config));
}

Json replace_spec(Json pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

TokenizerSpecs make_specs(const SentencePieceParts& parts, const Pieces& pieces, const std::string& unk_surface) {
  TokenizerSpecs specs;
  Json normalizers = Json::array();
  if (!parts.character_map.empty()) normalizers.push_back(precompiled_spec(parts.character_map));
  if (parts.remove_extra_whitespaces) {
    normalizers.push_back(replace_spec({{"Regex", " {2,}"}}, " "));
    normalizers.push_back(replace_spec({{"Regex", R"(\A | \z)"}}, ""));
  }
  if (parts.add_dummy_prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kMarker}});
  normalizers.push_back(replace_spec({{"String", " "}}, kMarker));
  specs.normalizer = {{"type", "Sequence"}, {"normalizers", normalizers}};
  Json decoders = Json::array();
  const bool strips = parts.add_dummy_prefix || parts.remove_extra_whitespaces;
  if (pieces.has_bytes) {
    decoders.push_back(replace_spec({{"String", kMarker}}, " "));
    decoders.push_back({{"type", "ByteFallback"}});
    decoders.push_back({{"type", "Fuse"}});
    const int start = parts.remove_extra_whitespaces ? 1024 : 1;
    if (strips) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", 0}});
  } else {
    const char* scheme = strips ? "always" : "never";
    decoders.push_back({{"type", "Metaspace"}, {"replacement", kMarker}, {"prepend_scheme", scheme}, {"split", true}});
    if (pieces.unk_id >= 0 && !unk_surface.empty()) {
      decoders.push_back(replace_spec({{"String", pieces.vocabulary.text(pieces.unk_id)}}, unk_surface));
    }
  }
  specs.decoder = {{"type", "Sequence"}, {"decoders", decoders}};
  return specs;
}

void add_special(std::vector<AddedToken>& tokens, int32_t id, std::string_view content, bool special) {
  const bool known = std::any_of(tokens.begin(), tokens.end(),
                                 [&](const AddedToken& token) { return token.id == id || token.content == content; });
  if (known) return;
  AddedToken token;
  token.id = id;
  token.content = content;
  token.special = special;
  tokens.push_back(token);
}

std::shared_ptr<const Tokenizer::Impl> assemble(const SentencePieceParts& parts, TokenizerConfig config,
                                                const std::string& unk_surface, const std::string& name) {
  Pieces pieces = check_pieces(parts, name);
  std::vector<AddedToken> added_tokens = parts.added_tokens;
  for (int32_t id = 0; id < pieces.vocabulary.id_limit(); ++id) {
    if (pieces.is(id, PieceType::control) || pieces.is(id, PieceType::unknown)) {
      add_special(added_tokens, id, pieces.vocabulary.text(id), true);
    }
  }
  for (const AddedToken& token : config.added_tokens) add_special(added_tokens, token.id, token.content, token.special);
  TokenizerSpecs specs = make_specs(parts, pieces, unk_surface);
  // [CLS] … [SEP] of ALBERT and DeBERTa, </s> of T5.
  const auto role_id = [&](const char* role) {
    const auto found = config.special_tokens.find(role);
    return found == config.special_tokens.end() ? -1 : pieces.vocabulary.find(found->second);
  };
  if (const int32_t cls = role_id("cls"), sep = role_id("sep"); cls >= 0 && sep >= 0) {
    specs.post_processor = {{"type", "BertProcessing"},
                            {"sep", Json::array({config.special_tokens["sep"], sep})},
                            {"cls", Json::array({config.special_tokens["cls"], cls})}};
  }
  std::unique_ptr<Model> model = parts.algorithm == SentencePieceParts::Algorithm::bpe
                                     ? make_bpe(std::move(pieces), name)
                                     : make_unigram_model(std::move(pieces), name);
  return assemble_tokenizer(std::move(specs), std::move(config), std::move(model), std::move(added_tokens), name);
}

bool starts_with_any(const std::string& text, std::initializer_list<const char*> beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(), [&](const char* start) { return text.starts_with(start); });
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_sentencepiece(std::string_view bytes, TokenizerConfig config,
                                                          const std::string& name) {
  SentencePieceModel model = read_sentencepiece_model(bytes, name);
  SentencePieceParts& parts = model.parts;
  if (!is_utf8(model.unk_surface)) throw UsageError(concat("\"unk_surface\" is not UTF-8 (", name, ")"));
  const std::string& kind = config.tokenizer_class;
  if (starts_with_any(kind, {"XLMRoberta", "Camembert", "MBart", "Barthez", "XGLM", "NllbTokenizer", "M2M"})) {
    throw UsageError(concat("the ids of a ", kind, " are not those of its SentencePiece model (", name, ")"),
                     "convert the tokenizer to tokenizer.json");
  }
  const auto count = static_cast<int64_t>(parts.tokens.size());
  const auto give_role = [&](const char* role, int64_t id) {
    if (id < 0 || id >= count) return;
    if (!config.special_tokens.contains(role)) config.special_tokens[role] = parts.tokens[static_cast<size_t>(id)];
  };
  give_role("unk", model.unk_id);
  give_role("bos", model.bos_id);
  give_role("eos", model.eos_id);
  give_role("pad", model.pad_id);
  const bool bert_like = starts_with_any(kind, {"Albert", "DebertaV2"});
  for (const auto& [role, token] : {std::pair{"cls", "[CLS]"}, {"sep", "[SEP]"}, {"mask", "[MASK]"}}) {
    const bool known = std::find(parts.tokens.begin(), parts.tokens.end(), token) != parts.tokens.end();
    if (known && bert_like && !config.special_tokens.contains(role)) config.special_tokens[role] = token;
  }
  if (!bert_like) {
    config.special_tokens.erase("cls");
    config.special_tokens.erase("sep");
  }
  if (kind.starts_with("T5")) {
    config.add_eos_token = true;
    // Sentinels follow the pieces, the first one last.
    constexpr int kSentinels = 100;
    for (int i = 0; i < kSentinels && config.added_tokens.empty(); ++i) {
      AddedToken token;
      token.id = static_cast<int32_t>(count) + kSentinels - 1 - i;
      token.content = concat("<extra_id_", i, ">");
      token.special = true;
      parts.added_tokens.push_back(token);
    }
  }
  return assemble(parts, std::move(config), model.unk_surface, name);
}

std::shared_ptr<const Tokenizer::Impl> read_llama2c(std::string_view bytes, TokenizerConfig config,
                                                    const std::string& name) {
  SentencePieceParts parts;
  const auto take = [&](size_t size) {
    if (size > bytes.size()) throw UsageError(concat("the file ends early (", name, ")"));
    const std::string_view value = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return value;
  };
  const auto integer = [&] {
    int32_t value;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  };
  const int32_t longest = integer();
  if (longest <= 0 || static_cast<size_t>(longest) > kMaxPieceBytes) {
    throw UsageError(
        concat("not a llama2.c tokenizer: the longest token is said to have ", longest, " bytes (", name, ")"));
  }
  while (!bytes.empty()) {
    const std::string where = concat(name, ", token ", parts.tokens.size());
    float score;
    std::memcpy(&score, take(4).data(), 4);
    const int32_t length = integer();
    if (length < 0 || length > longest) {
      throw UsageError(concat("a token of ", length, " bytes where ", longest, " are the most (", where, ")"));
    }
    std::string token;
    for (const char c : take(static_cast<size_t>(length))) c == ' ' ? token += kMarker : token += c;
    parts.tokens.push_back(std::move(token));
    parts.scores.push_back(score);
  }
  // The file has no types: ids 0 to 2 are <unk>, <s>, </s>, which it spells with line breaks around.
  for (size_t i = 0; i < parts.tokens.size(); ++i) {
    parts.types.push_back(i == 0                           ? PieceType::unknown
                          : i < 3                          ? PieceType::control
                          : is_byte_token(parts.tokens[i]) ? PieceType::byte
                                                           : PieceType::normal);
  }
  const char* names[] = {"<unk>", "<s>", "</s>"};
  const char* roles[] = {"unk", "bos", "eos"};
  for (size_t i = 0; i < std::min<size_t>(3, parts.tokens.size()); ++i) {
    parts.tokens[i] = names[i];
    if (!config.special_tokens.contains(roles[i])) config.special_tokens[roles[i]] = names[i];
  }
  config.add_bos_token = parts.tokens.size() > 1;
  return assemble(parts, std::move(config), "", name);
}

}  // namespace tokenization

Tokenizer make_sentencepiece_tokenizer(const SentencePieceParts& parts, const std::string& name) {
  tokenization::TokenizerConfig config;
  config.special_tokens = parts.special_tokens;
  config.add_bos_token = parts.add_bos;
  config.add_eos_token = parts.add_eos;
  config.chat_template = parts.chat_template;
  return Tokenizer(tokenization::assemble(parts, std::move(config), "", name));
}

}  // namespace ondol
