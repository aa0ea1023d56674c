#include <ondol/tokenizer/bpe_trainer.h>

#include <algorithm>
#include <limits>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/json_file.h"
#include "tokenizer/merge_learner.h"
#include "tokenizer/piece_counter.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol {

using namespace tokenization;

namespace {

constexpr const char* kName = "tokenizer training";

/// Counts a corpus and makes the tokenizer from it.
class BpeTrainer {
 public:
  explicit BpeTrainer(const BpeTrainerOptions& options) : options_(options) {
    check_options();
    if (options.nfc) specs_.normalizer = {{"type", "NFC"}};
    specs_.pre_tokenizer =
        split_pattern_spec({options.split_pattern}, options.individual_digits, options.add_prefix_space);
    specs_.decoder = byte_level_spec(true, true);
    normalizer_ = make_normalizer(specs_.normalizer, kName);
    pre_tokenizer_ = make_pre_tokenizer(specs_.pre_tokenizer, kName, /*raw_bytes=*/true);
    std::vector<AddedTokenMatcher::Pattern> patterns;
    for (const std::string& content : options.special_tokens) {
      AddedToken token;
      token.id = static_cast<int32_t>(added_tokens_.size());
      token.content = content;
      token.special = true;
      added_tokens_.push_back(token);
      patterns.push_back({content, token});
    }
    separators_ = AddedTokenMatcher(std::move(patterns));
    counter_ = std::make_unique<CorpusCounter>(*pre_tokenizer_, normalizer_.get(), separators_);
  }

  void add(std::string_view text) { counter_->add(text); }

  Tokenizer finish() {
    if (counter_->result().entries().empty()) throw UsageError("cannot train a tokenizer: the corpus is empty");
    StringTable tokens;
    std::string bytes;
    for (const AddedToken& token : added_tokens_) {
      // A merge whose product is spelled like a special token takes its id, as the vocabulary has room for one only.
      if (from_byte_alphabet(token.content, bytes)) tokens.add(token.id, bytes);
    }
    // Bytes follow in the order of their characters.
    std::vector<int> order(256);
    for (int byte = 0; byte < 256; ++byte) order[static_cast<size_t>(byte)] = byte;
    std::sort(order.begin(), order.end(), [](int a, int b) {
      return byte_to_alphabet(static_cast<uint8_t>(a)) < byte_to_alphabet(static_cast<uint8_t>(b));
    });
    auto next_id = static_cast<int32_t>(added_tokens_.size());
    for (const int byte : order) {
      const char text = static_cast<char>(byte);
      if (!tokens.add(next_id++, {&text, 1})) {
        throw UsageError(concat("a special token must not be a single byte: \"", to_byte_alphabet({&text, 1}), '"'));
      }
    }
    const MergeLimits limits{options_.vocab_size, std::max<int64_t>(options_.min_frequency, 1),
                             options_.max_token_length, options_.tie_break};
    const std::vector<LearnedMerge> merges =
        learn_merges(words_of_bytes(counter_->result(), tokens), limits, next_id, tokens);
    return make_tokenizer(tokens, merges);
  }

 private:
  void check_options() const {
    const auto smallest = static_cast<int64_t>(options_.special_tokens.size()) + 256;
    if (options_.vocab_size < smallest || options_.vocab_size > (int64_t{1} << 24)) {
      throw UsageError(concat("vocab_size must be between ", smallest, " (256 bytes and ", smallest - 256,
                              " special tokens) and 16777216, got ", options_.vocab_size));
    }
    if (options_.min_frequency < 0) throw UsageError("min_frequency must not be negative");
    if (options_.max_token_length < 0) throw UsageError("max_token_length must not be negative");
    std::vector<std::string> sorted = options_.special_tokens;
    std::sort(sorted.begin(), sorted.end());
    if (!sorted.empty() && sorted[0].empty()) throw UsageError("a special token must not be empty");
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) throw UsageError(concat("special token \"", *twice, "\" is given twice"));
    for (const auto& [role, token] : options_.roles) {
      if (!std::binary_search(sorted.begin(), sorted.end(), token)) {
        throw UsageError(concat("the ", role, " token \"", token, "\" is not among the special tokens"));
      }
    }
  }

  Tokenizer make_tokenizer(const StringTable& tokens, const std::vector<LearnedMerge>& merges) {
    ByteLevelBpe::Config model;
    model.source = kName;
    for (const AddedToken& token : added_tokens_) model.vocabulary.add(token.id, token.content);
    for (int32_t id = static_cast<int32_t>(added_tokens_.size()); id < tokens.id_limit(); ++id) {
      model.vocabulary.add(id, to_byte_alphabet(tokens.text(id)));
    }
    for (const LearnedMerge& merge : merges) {
      model.merges.push_back({merge.left, merge.right, static_cast<uint32_t>(model.merges.size())});
    }
    TokenizerConfig config;
    config.special_tokens = options_.roles;
    config.add_bos_token = options_.add_bos;
    config.add_eos_token = options_.add_eos;
    config.chat_template = options_.chat_template;
    return Tokenizer(assemble_tokenizer(std::move(specs_), std::move(config),
                                        std::make_unique<ByteLevelBpe>(std::move(model)), std::move(added_tokens_),
                                        kName));
  }

  BpeTrainerOptions options_;
  TokenizerSpecs specs_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::vector<AddedToken> added_tokens_;
  AddedTokenMatcher separators_;
  std::unique_ptr<CorpusCounter> counter_;
};

}  // namespace

Tokenizer train_bpe(std::span<const std::string> texts, const BpeTrainerOptions& options) {
  BpeTrainer trainer(options);
  for (const std::string& text : texts) trainer.add(text);
  return trainer.finish();
}

Tokenizer train_bpe(const std::function<std::optional<std::string>()>& next_text, const BpeTrainerOptions& options) {
  BpeTrainer trainer(options);
  while (const std::optional<std::string> text = next_text()) trainer.add(*text);
  return trainer.finish();
}

Tokenizer train_bpe_files(const std::vector<std::string>& paths, const BpeTrainerOptions& options) {
  if (paths.empty()) throw UsageError("cannot train a tokenizer: no files given");
  BpeTrainer trainer(options);
  for (const std::string& path : paths) trainer.add(read_file(path, std::numeric_limits<uint64_t>::max()));
  return trainer.finish();
}

}  // namespace ondol
