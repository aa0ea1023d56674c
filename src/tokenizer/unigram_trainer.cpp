#include <ondol/tokenizer/unigram_trainer.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/character_bpe.h"
#include "tokenizer/piece_counter.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/unigram.h"
#include "tokenizer/unigram_learner.h"

namespace ondol {

using namespace tokenization;

namespace {

constexpr const char* kName = "tokenizer training";
constexpr const char* kMarker = "\u2581";
/// Bytes are never chosen where there is another way: the text "<0x0A>" is not a line break.
constexpr double kByteScore = -1000;

Json replace_spec(Json pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

std::vector<std::string> special_tokens_of(const UnigramTrainerOptions& options) {
  std::vector<std::string> tokens = {"<unk>"};
  const auto add = [&](const std::string& token) {
    if (token.empty()) throw UsageError("a special token must not be empty");
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
  };
  for (const std::string& token : options.special_tokens) add(token);
  for (const auto& [role, token] : options.roles) add(token);
  return tokens;
}

void check(const UnigramTrainerOptions& options) {
  if (options.vocab_size < 1 || options.vocab_size > (int64_t{1} << 24)) {
    throw UsageError(concat("vocab_size must be between 1 and 16777216, got ", options.vocab_size));
  }
  if (options.max_piece_characters < 1 || options.max_piece_characters > 256) {
    throw UsageError(concat("max_piece_characters must be between 1 and 256, got ", options.max_piece_characters));
  }
  if (!(options.character_coverage > 0 && options.character_coverage <= 1)) {
    throw UsageError("character_coverage must be above 0 and at most 1");
  }
}

}  // namespace

Tokenizer train_unigram(const std::function<std::optional<std::string>()>& next_text,
                        const UnigramTrainerOptions& options) {
  check(options);
  const std::vector<std::string> special = special_tokens_of(options);
  TokenizerSpecs specs;
  if (options.nfkc) specs.normalizer = {{"type", "NFKC"}};
  specs.pre_tokenizer = {
      {"type", "Metaspace"}, {"replacement", kMarker}, {"prepend_scheme", "always"}, {"split", true}};
  if (options.byte_fallback) {
    specs.decoder = {{"type", "Sequence"},
                     {"decoders", Json::array({replace_spec({{"String", kMarker}}, " "),
                                               {{"type", "ByteFallback"}},
                                               {{"type", "Fuse"}},
                                               {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}};
  } else {
    specs.decoder = specs.pre_tokenizer;
  }
  const auto normalizer = make_normalizer(specs.normalizer, kName);
  const auto pre_tokenizer = make_pre_tokenizer(specs.pre_tokenizer, kName, false);
  std::vector<AddedTokenMatcher::Pattern> patterns;
  std::vector<AddedToken> added_tokens;
  for (const std::string& content : special) {
    added_tokens.push_back({.id = static_cast<int32_t>(added_tokens.size()), .content = content, .special = true});
    patterns.push_back({content, added_tokens.back()});
  }
  const AddedTokenMatcher separators(std::move(patterns));
  CorpusCounter counter(*pre_tokenizer, normalizer.get(), separators);
  while (const std::optional<std::string> text = next_text()) counter.add(*text);
  if (counter.result().entries().empty()) throw UsageError("cannot train a tokenizer: the corpus is empty");

  const auto reserved = static_cast<int64_t>(special.size()) + (options.byte_fallback ? 256 : 0);
  const UnigramLimits limits{options.vocab_size - reserved, options.max_piece_characters, options.max_candidates,
                             options.character_coverage};
  const auto characters = static_cast<int64_t>(required_characters(counter.result(), limits.character_coverage).size());
  if (limits.pieces < characters) {
    throw UsageError(concat("vocab_size ", options.vocab_size, " is too small: ", reserved,
                            " special tokens and bytes and ", characters, " characters"),
                     "a larger --vocab-size, or a smaller character coverage");
  }
  Unigram::Config model;
  const auto add = [&](std::string_view text, double score) {
    if (model.vocabulary.add(static_cast<int32_t>(model.scores.size()), text)) model.scores.push_back(score);
  };
  for (const std::string& token : special) add(token, 0);
  if (options.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) add(byte_token(static_cast<uint8_t>(byte)), kByteScore);
  }
  for (const ScoredPiece& piece : learn_unigram(counter.result(), limits)) add(piece.text, piece.score);
  model.plain.assign(model.scores.size(), 1);
  std::fill_n(model.plain.begin(), special.size(), uint8_t{0});
  model.unk_id = 0;
  model.byte_fallback = options.byte_fallback;
  model.source = kName;
  TokenizerConfig config;
  config.special_tokens = options.roles;
  config.special_tokens["unk"] = special[0];
  config.add_bos_token = options.add_bos;
  config.add_eos_token = options.add_eos;
  return Tokenizer(assemble_tokenizer(std::move(specs), std::move(config), std::make_unique<Unigram>(std::move(model)),
                                      std::move(added_tokens), kName));
}

}  // namespace ondol
