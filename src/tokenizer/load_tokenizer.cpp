// Which files of a directory make a tokenizer, and writing one.
#include <filesystem>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/json_file.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol {

namespace fs = std::filesystem;
using namespace tokenization;

namespace {

TokenizerConfig read_config_beside(const fs::path& directory) {
  TokenizerConfig config;
  if (const fs::path path = directory / "tokenizer_config.json"; fs::exists(path)) {
    config = read_tokenizer_config(read_file(path.string(), kMaxFileBytes), path.string());
  }
  if (const fs::path path = directory / "special_tokens_map.json"; fs::exists(path)) {
    const TokenizerConfig map = read_tokenizer_config(read_file(path.string(), kMaxFileBytes), path.string());
    config.special_tokens.insert(map.special_tokens.begin(), map.special_tokens.end());
  }
  if (const fs::path path = directory / "sentence_bert_config.json"; fs::exists(path)) {
    const Json root = parse_json(read_file(path.string(), kMaxFileBytes), path.string());
    if (root.is_object() && root.contains("max_seq_length") && !root["max_seq_length"].is_null()) {
      config.max_seq_length = integer_at(root, "max_seq_length", path.string());
    }
  }
  if (const fs::path path = directory / "chat_template.jinja"; fs::exists(path)) {
    config.chat_template = read_file(path.string(), kMaxFileBytes);
  }
  return config;
}

/// A file that is not JSON: SentencePiece model, llama2.c tokenizer or tiktoken ranks.
Tokenizer load_other(const fs::path& path, const LoadTokenizerOptions& options, TokenizerConfig config) {
  const std::string bytes = read_file(path.string(), kMaxFileBytes);
  if (path.extension() == ".bin") return Tokenizer(read_llama2c(bytes, std::move(config), path.string()));
  // A SentencePiece model is a protocol buffer: it begins with the tag of its first piece.
  if (!bytes.empty() && bytes[0] == '\n') {
    return Tokenizer(read_sentencepiece(bytes, std::move(config), path.string()));
  }
  return Tokenizer(read_tiktoken(bytes, options.split_pattern, std::move(config), path.string()));
}

Tokenizer load_vocab_txt(const fs::path& path, const LoadTokenizerOptions& options, TokenizerConfig config) {
  const bool lowercase = config.lowercase.value_or(options.lowercase);
  return Tokenizer(
      read_vocab_txt(read_file(path.string(), kMaxFileBytes), lowercase, std::move(config), path.string()));
}

constexpr std::pair<const char*, const char*> kVocabAndMerges[] = {{"vocab.json", "merges.txt"},
                                                                   {"encoder.json", "vocab.bpe"}};

/// The file of a directory that makes its tokenizer, "" when there is none. Throws UsageError when it may be several.
fs::path find_main_file(const fs::path& directory) {
  if (fs::exists(directory / "tokenizer.json")) return directory / "tokenizer.json";
  for (const auto& [vocab, merges] : kVocabAndMerges) {
    if (fs::exists(directory / vocab) && fs::exists(directory / merges)) return directory / vocab;
  }
  for (const char* file :
       {"vocab.txt", "tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.bin"}) {
    if (fs::exists(directory / file)) return directory / file;
  }
  fs::path tiktoken;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (!tiktoken.empty()) {
      throw UsageError(concat("several .tiktoken files; name one of them (", directory.string(), ")"));
    }
    tiktoken = entry.path();
  }
  return tiktoken;
}

}  // namespace

Tokenizer load_tokenizer(const std::string& directory_or_file, const LoadTokenizerOptions& options) {
  const fs::path given(directory_or_file);
  if (!fs::exists(given)) throw UsageError(concat("no such file or directory (", directory_or_file, ")"));
  const bool is_directory = fs::is_directory(given);
  if (!is_directory && is_gguf_file(directory_or_file)) return read_gguf_tokenizer(GgufFile(directory_or_file));
  const fs::path directory = is_directory ? given : given.parent_path();
  TokenizerConfig config = read_config_beside(directory);
  if (!is_directory) {
    if (given.extension() == ".json") {
      return Tokenizer(
          read_tokenizer_json(read_file(given.string(), kMaxFileBytes), std::move(config), given.string()));
    }
    if (given.extension() == ".txt") return load_vocab_txt(given, options, std::move(config));
    return load_other(given, options, std::move(config));
  }
  const fs::path file = find_main_file(given);
  if (file.empty()) {
    throw UsageError(
        concat("no tokenizer found: neither tokenizer.json, vocab.json + merges.txt, vocab.txt nor a SentencePiece or "
               "tiktoken file (",
               directory_or_file, ")"));
  }
  for (const auto& [vocab, merges] : kVocabAndMerges) {
    if (file.filename() != vocab) continue;
    return Tokenizer(read_vocab_and_merges(file.string(), (given / merges).string(), std::move(config)));
  }
  if (file.extension() == ".json") {
    return Tokenizer(read_tokenizer_json(read_file(file.string(), kMaxFileBytes), std::move(config), file.string()));
  }
  if (file.extension() == ".txt") return load_vocab_txt(file, options, std::move(config));
  return load_other(file, options, std::move(config));
}

bool has_tokenizer(const std::string& path) {
  if (fs::is_directory(path)) return !find_main_file(path).empty();
  return is_gguf_file(path) && GgufFile(path).find_value("tokenizer.ggml.model") != nullptr;
}

Tokenizer tokenizer_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json,
                              const std::string& name) {
  TokenizerConfig config;
  if (!tokenizer_config_json.empty()) config = read_tokenizer_config(tokenizer_config_json, "tokenizer_config.json");
  return Tokenizer(read_tokenizer_json(tokenizer_json, std::move(config), name));
}

void Tokenizer::save(const std::string& directory) const {
  make_directories(directory);
  const auto path = [&](const char* name) { return (fs::path(directory) / name).string(); };
  write_file_atomic(path("tokenizer.json"), write_tokenizer_json(*impl_));
  write_file_atomic(path("tokenizer_config.json"), write_tokenizer_config(impl_->config));
  write_vocab_txt(*impl_, path("vocab.txt"));
  if (!impl_->config.chat_template.empty()) {
    write_file_atomic(path("chat_template.jinja"), impl_->config.chat_template);
  } else {
    std::error_code ignored;
    fs::remove(path("chat_template.jinja"), ignored);  // of a tokenizer saved here before
  }
}

}  // namespace ondol
