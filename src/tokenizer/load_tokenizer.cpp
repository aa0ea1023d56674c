// Which files of a directory make a tokenizer, and writing one.
#include <filesystem>
#include <fstream>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

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
  if (const fs::path path = directory / "chat_template.jinja"; fs::exists(path)) {
    config.chat_template = read_file(path.string(), kMaxFileBytes);
  }
  return config;
}

Tokenizer load_tiktoken(const fs::path& path, const LoadTokenizerOptions& options, TokenizerConfig config) {
  const std::string text = read_file(path.string(), kMaxFileBytes);
  // A SentencePiece model is a protocol buffer: it begins with the tag of its first piece.
  if (!text.empty() && text[0] == '\n') {
    throw UsageError(concat("SentencePiece models are not supported (", path.string(), ")"),
                     "convert the tokenizer to tokenizer.json");
  }
  return Tokenizer(read_tiktoken(text, options.split_pattern, std::move(config), path.string()));
}

void write_file(const fs::path& path, const std::string& bytes) {
  // Written under another name first, so that a failure leaves no partial file.
  const fs::path temporary = path.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::error_code error;
  if (out) fs::rename(temporary, path, error);
  if (!out || error) {
    fs::remove(temporary, error);
    throw Error(concat("cannot write file (", path.string(), ")"));
  }
}

}  // namespace

Tokenizer load_tokenizer(const std::string& directory_or_file, const LoadTokenizerOptions& options) {
  const fs::path given(directory_or_file);
  if (!fs::exists(given)) throw UsageError(concat("no such file or directory (", directory_or_file, ")"));
  const bool is_directory = fs::is_directory(given);
  const fs::path directory = is_directory ? given : given.parent_path();
  TokenizerConfig config = read_config_beside(directory);
  if (!is_directory) {
    if (given.extension() == ".json") {
      return Tokenizer(
          read_tokenizer_json(read_file(given.string(), kMaxFileBytes), std::move(config), given.string()));
    }
    return load_tiktoken(given, options, std::move(config));
  }
  if (const fs::path path = given / "tokenizer.json"; fs::exists(path)) {
    return Tokenizer(read_tokenizer_json(read_file(path.string(), kMaxFileBytes), std::move(config), path.string()));
  }
  for (const auto& [vocab, merges] : {std::pair("vocab.json", "merges.txt"), std::pair("encoder.json", "vocab.bpe")}) {
    if (fs::exists(given / vocab) && fs::exists(given / merges)) {
      return Tokenizer(read_vocab_and_merges((given / vocab).string(), (given / merges).string(), std::move(config)));
    }
  }
  if (fs::exists(given / "tokenizer.model"))
    return load_tiktoken(given / "tokenizer.model", options, std::move(config));
  fs::path tiktoken;
  for (const auto& entry : fs::directory_iterator(given)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (!tiktoken.empty())
      throw UsageError(concat("several .tiktoken files; name one of them (", directory_or_file, ")"));
    tiktoken = entry.path();
  }
  if (!tiktoken.empty()) return load_tiktoken(tiktoken, options, std::move(config));
  throw UsageError(concat("no tokenizer found: neither tokenizer.json, vocab.json + merges.txt nor a tiktoken file (",
                          directory_or_file, ")"));
}

Tokenizer tokenizer_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json,
                              const std::string& name) {
  TokenizerConfig config;
  if (!tokenizer_config_json.empty()) config = read_tokenizer_config(tokenizer_config_json, "tokenizer_config.json");
  return Tokenizer(read_tokenizer_json(tokenizer_json, std::move(config), name));
}

void Tokenizer::save(const std::string& directory) const {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw Error(concat("cannot make directory: ", error.message(), " (", directory, ")"));
  write_file(fs::path(directory) / "tokenizer.json", write_tokenizer_json(*impl_));
  write_file(fs::path(directory) / "tokenizer_config.json", write_tokenizer_config(impl_->config));
  const fs::path chat_template = fs::path(directory) / "chat_template.jinja";
  if (!impl_->config.chat_template.empty()) {
    write_file(chat_template, impl_->config.chat_template);
  } else {
    fs::remove(chat_template, error);  // of a tokenizer saved here before
  }
}

}  // namespace ondol
