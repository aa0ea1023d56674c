// The formats that tokenizers are read from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer_impl.h"

namespace ondol::tokenization {

/// tokenizer.json.
std::shared_ptr<const Tokenizer::Impl> read_tokenizer_json(std::string_view text, TokenizerConfig config,
                                                           const std::string& name);

/// The whole tokenizer.json of a tokenizer.
std::string write_tokenizer_json(const Tokenizer::Impl& impl);

/// tokenizer_config.json, or special_tokens_map.json, which has some of its keys.
TokenizerConfig read_tokenizer_config(std::string_view text, const std::string& name);
std::string write_tokenizer_config(const TokenizerConfig& config);

/// The configuration's added tokens, and behind them those of the vocabulary that it gives a role; the mask token takes
/// the space before it along where that is wished (RoBERTa).
std::vector<AddedToken> tokens_of_roles(const StringTable& vocabulary, const TokenizerConfig& config,
                                        bool mask_takes_space);

/// One added token of tokenizer.json or of "added_tokens_decoder"; the id comes from elsewhere in the latter.
AddedToken read_added_token(const Json& spec, int64_t id, const std::string& where);

/// vocab.json + merges.txt as GPT-2 and RoBERTa have them.
std::shared_ptr<const Tokenizer::Impl> read_vocab_and_merges(const std::string& vocab_path,
                                                             const std::string& merges_path, TokenizerConfig config);

/// The sections "truncation" and "padding" of tokenizer.json.
std::optional<TruncationSettings> read_truncation(const Json& spec, const std::string& name);
std::optional<PaddingSettings> read_padding(const Json& spec, const std::string& name);

/// vocab.txt of BERT: one piece a line, its id the number of the line.
std::shared_ptr<const Tokenizer::Impl> read_vocab_txt(std::string_view text, bool lowercase, TokenizerConfig config,
                                                      const std::string& name);

/// Writes the vocabulary of a WordPiece model without holes; for other models removes what was saved here before.
void write_vocab_txt(const Tokenizer::Impl& impl, const std::string& path);

/// SentencePiece's .model, and tokenizer.bin of llama2.c.
std::shared_ptr<const Tokenizer::Impl> read_sentencepiece(std::string_view bytes, TokenizerConfig config,
                                                          const std::string& name);
std::shared_ptr<const Tokenizer::Impl> read_llama2c(std::string_view bytes, TokenizerConfig config,
                                                    const std::string& name);

/// Entries {token, id} to a table: ids must not repeat, nor be negative or absurdly large for the number of entries.
StringTable make_vocabulary(const std::vector<std::pair<std::string, int64_t>>& entries, const std::string& where);

/// Lines "base64 rank" as tiktoken writes them.
std::shared_ptr<const Tokenizer::Impl> read_tiktoken(std::string_view text, const std::string& split_pattern,
                                                     TokenizerConfig config, const std::string& name);

/// The "pre_tokenizer" part for split patterns by name ("gpt2", "cl100k", "qwen2") or regular expression.
Json split_pattern_spec(const std::vector<std::string>& patterns, bool individual_digits, bool add_prefix_space);
Json byte_level_spec(bool add_prefix_space, bool use_regex);

/// A template that puts the tokens before and after each sequence; empty tokens are left out. Null when both are empty.
Json bos_eos_template(const std::string& bos, int32_t bos_id, const std::string& eos, int32_t eos_id);

}  // namespace ondol::tokenization
