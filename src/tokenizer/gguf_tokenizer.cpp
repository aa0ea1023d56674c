// The tokenizer that a GGUF file carries in its metadata (keys tokenizer.*; llama.cpp, src/llama-vocab.cpp, says what
// the names of pre-tokenizers stand for).
#include <ondol/base/error.h>

#include "base/json_reader.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol {

namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr int64_t kControl = 3, kUserDefined = 4;  // tokenizer.ggml.token_type

/// How a pre-tokenizer splits a text, and what llama.cpp takes for granted with it.
struct PreTokenizerName {
  std::vector<const char*> names;
  std::vector<const char*> patterns;  // as in LoadTokenizerOptions
  bool individual_digits = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

const PreTokenizerName kPreTokenizers[] = {
    {{"gpt-2", "phi-2", "roberta-bpe", "jina-es", "jina-de", "olmo", "mpt"}, {"gpt2"}},
    {{"smollm", "starcoder", "refact", "command-r", "codeshell"}, {"gpt2"}, true},
    {{"llama-bpe", "llama3", "llama-v3"}, {"cl100k"}, false, true, true},
    {{"qwen2", "deepseek-r1-qwen"}, {"qwen2"}},
    {{"deepseek-coder"}, {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"}},
    {{"default"},
     {R"([\p{P}\$\+<=>\^~\|]+)", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))",
      R"(\p{N}+)", "[0-9][0-9][0-9]"}},
};

const PreTokenizerName& find_pre_tokenizer(const GgufFile& file) {
  const std::string wanted = file.text("tokenizer.ggml.pre").value_or("default");
  std::string known;
  for (const PreTokenizerName& entry : kPreTokenizers) {
    for (const char* name : entry.names) {
      if (wanted == name) return entry;
      known += concat(known.empty() ? "" : ", ", name);
    }
  }
  throw UsageError(concat("key \"tokenizer.ggml.pre\": pre-tokenizer ", quoted_name(wanted), " is not supported (",
                          file.path(), ")"),
                   "supported: " + known);
}

/// What every kind of tokenizer has.
struct CommonParts {
  std::vector<std::string> tokens;
  std::vector<AddedToken> added_tokens;
  std::map<std::string, std::string> special_tokens;
};

CommonParts read_common_parts(const GgufFile& file) {
  CommonParts parts;
  std::optional<std::vector<std::string>> tokens = file.texts(kTokens);
  if (!tokens || tokens->empty()) file.fail(kTokens, "it is missing or empty");
  parts.tokens = *std::move(tokens);
  if (const auto types = file.integers("tokenizer.ggml.token_type")) {
    if (types->size() != parts.tokens.size()) {
      file.fail("tokenizer.ggml.token_type", concat(types->size(), " entries for ", parts.tokens.size(), " tokens"));
    }
    for (size_t id = 0; id < types->size(); ++id) {
      const int64_t type = (*types)[id];
      if (type != kControl && type != kUserDefined) continue;
      AddedToken token;
      token.id = static_cast<int32_t>(id);
      token.content = parts.tokens[id];
      token.special = type == kControl;
      parts.added_tokens.push_back(std::move(token));
    }
  }
  // The misspelt "seperator" is what the format says.
  const std::pair<const char*, const char*> roles[] = {{"bos", "bos"},     {"eos", "eos"},       {"unknown", "unk"},
                                                       {"padding", "pad"}, {"seperator", "sep"}, {"separator", "sep"},
                                                       {"cls", "cls"},     {"mask", "mask"}};
  for (const auto& [name, role] : roles) {
    const std::string key = concat("tokenizer.ggml.", name, "_token_id");
    const std::optional<int64_t> id = file.integer(key);
    if (!id) continue;
    if (*id < 0 || *id >= static_cast<int64_t>(parts.tokens.size())) {
      file.fail(key, concat("id ", *id, " is outside of the ", parts.tokens.size(), " tokens"));
    }
    parts.special_tokens[role] = parts.tokens[static_cast<size_t>(*id)];
  }
  return parts;
}

Tokenizer read_gguf_byte_level_bpe(const GgufFile& file) {
  const PreTokenizerName& pre = find_pre_tokenizer(file);
  CommonParts common = read_common_parts(file);
  ByteLevelBpeParts parts;
  parts.tokens = std::move(common.tokens);
  parts.added_tokens = std::move(common.added_tokens);
  parts.special_tokens = std::move(common.special_tokens);
  std::optional<std::vector<std::string>> merges = file.texts("tokenizer.ggml.merges");
  if (!merges) file.fail("tokenizer.ggml.merges", "it is missing");
  parts.merges = *std::move(merges);
  parts.split_patterns.assign(pre.patterns.begin(), pre.patterns.end());
  parts.individual_digits = pre.individual_digits;
  parts.ignore_merges = pre.ignore_merges;
  parts.add_prefix_space = file.flag("tokenizer.ggml.add_space_prefix").value_or(false);
  parts.add_bos = file.flag("tokenizer.ggml.add_bos_token").value_or(pre.add_bos);
  parts.add_eos = file.flag("tokenizer.ggml.add_eos_token").value_or(false);
  parts.chat_template = file.text("tokenizer.chat_template").value_or("");
  return make_byte_level_bpe_tokenizer(parts, file.path());
}

/// llama.cpp's "llama" and "t5": SentencePiece vocabularies.
Tokenizer read_gguf_sentencepiece(const GgufFile& file, SentencePieceParts::Algorithm algorithm) {
  CommonParts common = read_common_parts(file);
  SentencePieceParts parts;
  parts.algorithm = algorithm;
  const size_t count = common.tokens.size();
  parts.tokens = std::move(common.tokens);
  const std::optional<std::vector<double>> scores = file.numbers("tokenizer.ggml.scores");
  if (!scores) file.fail("tokenizer.ggml.scores", "it is missing");
  if (scores->size() != count) {
    file.fail("tokenizer.ggml.scores", concat(scores->size(), " entries for ", count, " tokens"));
  }
  for (const double score : *scores) parts.scores.push_back(static_cast<float>(score));
  for (const int64_t type : file.integers("tokenizer.ggml.token_type").value_or(std::vector<int64_t>{})) {
    if (type < 1 || type > 6) file.fail("tokenizer.ggml.token_type", concat("type ", type, " is unknown"));
    parts.types.push_back(static_cast<PieceType>(type));
  }
  if (const GgufValue* map = file.find_value("tokenizer.ggml.precompiled_charsmap")) {
    parts.character_map = file.raw(*map).bytes;
  }
  parts.add_dummy_prefix = file.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  parts.remove_extra_whitespaces = file.flag("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  parts.added_tokens = std::move(common.added_tokens);
  parts.special_tokens = std::move(common.special_tokens);
  const bool bpe = algorithm == SentencePieceParts::Algorithm::bpe;
  parts.add_bos = file.flag("tokenizer.ggml.add_bos_token").value_or(bpe);
  parts.add_eos = file.flag("tokenizer.ggml.add_eos_token").value_or(!bpe);
  parts.chat_template = file.text("tokenizer.chat_template").value_or("");
  return make_sentencepiece_tokenizer(parts, file.path());
}

/// llama.cpp marks the beginning of a word with U+2581 where vocab.txt marks what goes on with "##".
Tokenizer read_gguf_wordpiece(const GgufFile& file) {
  constexpr std::string_view kWordStart = "\u2581";
  CommonParts common = read_common_parts(file);
  WordPieceParts parts;
  for (std::string& token : common.tokens) {
    const bool in_brackets = token.starts_with('[') && token.ends_with(']');
    if (token.starts_with(kWordStart)) {
      parts.tokens.push_back(token.substr(kWordStart.size()));
    } else {
      parts.tokens.push_back(in_brackets ? std::move(token) : "##" + token);
    }
  }
  parts.added_tokens = std::move(common.added_tokens);
  parts.special_tokens = std::move(common.special_tokens);
  return make_wordpiece_tokenizer(parts, file.path());
}

}  // namespace

namespace tokenization {

Tokenizer read_gguf_tokenizer(const GgufFile& file) {
  const std::string model = file.require_text("tokenizer.ggml.model");
  if (const std::optional<std::string> text = file.text(kHuggingFaceTokenizer)) {
    TokenizerConfig config;
    config.special_tokens = read_common_parts(file).special_tokens;
    config.chat_template = file.text("tokenizer.chat_template").value_or("");
    return Tokenizer(
        read_tokenizer_json(*text, std::move(config), concat(file.path(), ", key ", kHuggingFaceTokenizer)));
  }
  if (model == "gpt2") return read_gguf_byte_level_bpe(file);
  if (model == "llama") return read_gguf_sentencepiece(file, SentencePieceParts::Algorithm::bpe);
  if (model == "t5") return read_gguf_sentencepiece(file, SentencePieceParts::Algorithm::unigram);
  if (model == "bert") return read_gguf_wordpiece(file);
  throw UsageError(
      concat("key \"tokenizer.ggml.model\": ", quoted_name(model), " is not supported (", file.path(), ")"),
      "supported: gpt2, llama, t5, bert");
}

}  // namespace tokenization

}  // namespace ondol
