// BERT's tokenizer from its vocabulary: the components that transformers' BertTokenizer stands for.
#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "tokenizer/json_file.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/utf8.h"
#include "tokenizer/wordpiece.h"

namespace ondol {

namespace tokenization {

namespace {

struct BertSettings {
  bool lowercase, chinese_characters;
  std::optional<bool> strip_accents;
};

std::shared_ptr<const Tokenizer::Impl> assemble_bert(StringTable vocabulary, const BertSettings& settings,
                                                     TokenizerConfig config, const std::string& name) {
  const std::pair<const char*, const char*> roles[] = {
      {"unk", "[UNK]"}, {"cls", "[CLS]"}, {"sep", "[SEP]"}, {"pad", "[PAD]"}, {"mask", "[MASK]"}};
  for (const auto& [role, token] : roles) {
    if (!config.special_tokens.contains(role) && vocabulary.find(token) >= 0) config.special_tokens[role] = token;
  }
  std::vector<AddedToken> added_tokens = tokens_of_roles(vocabulary, config, /*mask_takes_space=*/false);
  TokenizerSpecs specs;
  specs.normalizer = {{"type", "BertNormalizer"},
                      {"clean_text", true},
                      {"handle_chinese_chars", settings.chinese_characters},
                      {"strip_accents", settings.strip_accents ? Json(*settings.strip_accents) : Json()},
                      {"lowercase", settings.lowercase}};
  specs.pre_tokenizer = {{"type", "BertPreTokenizer"}};
  specs.decoder = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  const auto id_of = [&](const char* role) {
    const auto found = config.special_tokens.find(role);
    return found == config.special_tokens.end() ? -1 : vocabulary.find(found->second);
  };
  if (const int32_t cls = id_of("cls"), sep = id_of("sep"); cls >= 0 && sep >= 0) {
    specs.post_processor = {{"type", "BertProcessing"},
                            {"sep", Json::array({config.special_tokens["sep"], sep})},
                            {"cls", Json::array({config.special_tokens["cls"], cls})}};
  }
  WordPiece::Config model;
  if (const auto unk = config.special_tokens.find("unk"); unk != config.special_tokens.end()) {
    model.unk_token = unk->second;
  }
  model.source = name;
  model.vocabulary = std::move(vocabulary);
  return assemble_tokenizer(std::move(specs), std::move(config), std::make_unique<WordPiece>(std::move(model)),
                            std::move(added_tokens), name);
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_vocab_txt(std::string_view text, bool lowercase, TokenizerConfig config,
                                                      const std::string& name) {
  std::vector<std::pair<std::string, int64_t>> entries;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!is_utf8(line)) throw UsageError(concat("a piece is not UTF-8 (", name, ", line ", entries.size() + 1, ")"));
    entries.emplace_back(line, static_cast<int64_t>(entries.size()));
  }
  // Of a piece that is there twice the last line counts, as in a dictionary made line by line.
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  });
  entries.erase(
      std::unique(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
      entries.end());
  const BertSettings settings{lowercase, config.chinese_characters.value_or(true), config.strip_accents};
  return assemble_bert(make_vocabulary(entries, name), settings, std::move(config), name);
}

void write_vocab_txt(const Tokenizer::Impl& impl, const std::string& path) {
  std::string text;
  bool possible = dynamic_cast<const WordPiece*>(impl.model.get()) != nullptr;
  for (int32_t id = 0; possible && id < impl.vocab_size; ++id) {
    const std::string_view token = impl.token_text(id);
    possible = !token.empty() && token.find_first_of("\r\n") == token.npos;
    (text += token) += '\n';
  }
  if (possible) {
    write_file_atomic(path, text);
  } else {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
}

}  // namespace tokenization

Tokenizer make_wordpiece_tokenizer(const WordPieceParts& parts, const std::string& name) {
  using namespace tokenization;
  std::vector<std::pair<std::string, int64_t>> entries;
  for (const std::string& token : parts.tokens) {
    if (!is_utf8(token)) throw UsageError(concat("a piece is not UTF-8 (", name, ", token ", entries.size(), ")"));
    entries.emplace_back(token, static_cast<int64_t>(entries.size()));
  }
  TokenizerConfig config;
  config.special_tokens = parts.special_tokens;
  config.added_tokens = parts.added_tokens;
  const BertSettings settings{parts.lowercase, parts.chinese_characters, parts.strip_accents};
  return Tokenizer(assemble_bert(make_vocabulary(entries, name + ", tokens"), settings, std::move(config), name));
}

}  // namespace ondol
