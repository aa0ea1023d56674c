// What a Tokenizer handle points to.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/tokenizer/tokenizer.h>

#include "tokenizer/added_tokens.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/piece_encoder.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"

namespace ondol {

namespace tokenization {

/// tokenizer_config.json.
struct TokenizerConfig {
  std::map<std::string, std::string> special_tokens;  // role to token
  bool add_bos_token = false, add_eos_token = false, add_prefix_space = false;
  std::string tokenizer_class;
  std::vector<AddedToken> added_tokens;  // "added_tokens_decoder"; for vocabularies without a tokenizer.json
  Json model_max_length;                 // null when not given
  int64_t max_seq_length = 0;            // of sentence_bert_config.json; 0: not given
  // BertTokenizer's, for a vocab.txt.
  std::optional<bool> lowercase, strip_accents, chinese_characters;
  std::string chat_template;
};

/// The parts of tokenizer.json that are kept as they are written; the model writes itself.
struct TokenizerSpecs {
  Json normalizer, pre_tokenizer, post_processor, decoder, truncation, padding;
};

}  // namespace tokenization

struct Tokenizer::Impl {
  tokenization::TokenizerSpecs specs;
  tokenization::TokenizerConfig config;
  std::vector<AddedToken> added_tokens;  // by ascending id
  std::unique_ptr<tokenization::Normalizer> normalizer;
  std::unique_ptr<tokenization::PreTokenizer> pre_tokenizer;
  std::unique_ptr<tokenization::Model> model;
  tokenization::PostProcessor post_processor;
  std::optional<TruncationSettings> truncation;
  std::optional<PaddingSettings> padding;
  std::unique_ptr<tokenization::Decoder> decoder;

  // Derived from the above by finish().
  tokenization::StringTable added_vocabulary;                                   // added tokens by id
  std::vector<bool> special;                                                    // by id
  tokenization::AddedTokenMatcher raw_matcher, normalized_matcher;              // every added token
  tokenization::AddedTokenMatcher raw_plain_matcher, normalized_plain_matcher;  // those that are not special
  int64_t vocab_size = 0;

  /// Encoders that are not in use; each thread borrows one, so that their caches live on.
  mutable std::mutex encoders_mutex;
  mutable std::vector<std::unique_ptr<tokenization::PieceEncoder>> idle_encoders;

  /// Checks the added tokens against the model and makes the derived members. `name` is the file named in errors.
  void finish(const std::string& name);

  void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids) const;
  /// The same with the places of the tokens: fills ids, offsets and word_ids.
  void trace_text(std::string_view text, bool parse_special, Encoding& out) const;
  /// One text or two, truncated and with the template around; `detailed` fills in what encode_detailed() promises.
  Encoding encode_sequences(std::string_view text, const std::string_view* pair, const EncodeOptions& options,
                            bool detailed) const;
  std::string_view token_text(int32_t id) const;
  void decode_token(int32_t id, tokenization::DecodeRun& run, std::string& out) const;
};

namespace tokenization {

/// Puts a tokenizer together: makes every component from its specification, then finish().
std::shared_ptr<const Tokenizer::Impl> assemble_tokenizer(TokenizerSpecs specs, TokenizerConfig config,
                                                          std::unique_ptr<Model> model,
                                                          std::vector<AddedToken> added_tokens,
                                                          const std::string& name);

}  // namespace tokenization

}  // namespace ondol
