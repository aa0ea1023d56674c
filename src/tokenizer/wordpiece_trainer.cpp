#include <ondol/tokenizer/wordpiece_trainer.h>

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/merge_learner.h"
#include "tokenizer/piece_counter.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/utf8.h"

namespace ondol {

using namespace tokenization;

namespace {

constexpr const char* kName = "tokenizer training";
constexpr std::string_view kPrefix = "##";

std::vector<std::string> special_tokens_of(const WordPieceTrainerOptions& options) {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (const std::string& token : options.special_tokens) {
    if (token.empty()) throw UsageError("a special token must not be empty");
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

template <class Body>
void for_each_character(std::string_view word, const Body& body) {
  for (size_t i = 0; i < word.size();) {
    const CodePoint c = decode_code_point(word, i);
    body(c.value, i == 0);
    i += c.length;
  }
}

/// The most frequent characters, with whether words begin with them and whether they occur inside.
struct Alphabet {
  struct Use {
    bool begins = false, inside = false;
  };
  std::map<uint32_t, Use> uses;

  Alphabet(const PieceCounts& words, size_t limit) {
    std::map<uint32_t, int64_t> counts;
    for (const auto& entry : words.entries()) {
      for_each_character(words.text(entry), [&](uint32_t c, bool) { counts[c] += entry.count; });
    }
    std::vector<std::pair<int64_t, uint32_t>> by_count;
    for (const auto& [c, count] : counts) by_count.emplace_back(-count, c);
    std::sort(by_count.begin(), by_count.end());
    if (by_count.size() > limit) by_count.resize(limit);
    for (const auto& [count, c] : by_count) uses[c] = {};
    for (const auto& entry : words.entries()) {
      if (!covers(words.text(entry))) continue;
      for_each_character(words.text(entry),
                         [&](uint32_t c, bool first) { (first ? uses[c].begins : uses[c].inside) = true; });
    }
  }

  bool covers(std::string_view word) const {
    bool covered = true;
    for_each_character(word,
                       [&](uint32_t c, bool) { covered = covered && c != kInvalidCodePoint && uses.contains(c); });
    return covered;
  }
};

std::string piece_text(uint32_t c, bool first) {
  std::string text(first ? std::string_view() : kPrefix);
  append_utf8(c, text);
  return text;
}

}  // namespace

Tokenizer train_wordpiece(const std::function<std::optional<std::string>()>& next_text,
                          const WordPieceTrainerOptions& options) {
  if (options.vocab_size < 1 || options.vocab_size > (int64_t{1} << 24)) {
    throw UsageError(concat("vocab_size must be between 1 and 16777216, got ", options.vocab_size));
  }
  if (options.min_frequency < 0) throw UsageError("min_frequency must not be negative");
  if (options.max_characters < 1) throw UsageError("max_characters must be at least 1");
  const std::vector<std::string> special = special_tokens_of(options);
  const auto normalizer = make_normalizer({{"type", "BertNormalizer"},
                                           {"lowercase", options.lowercase},
                                           {"strip_accents", options.strip_accents.value_or(options.lowercase)}},
                                          kName);
  const auto pre_tokenizer = make_pre_tokenizer({{"type", "BertPreTokenizer"}}, kName, false);
  std::vector<AddedTokenMatcher::Pattern> patterns;
  for (const std::string& content : special) patterns.push_back({content, {.content = content, .special = true}});
  const AddedTokenMatcher separators(std::move(patterns));
  CorpusCounter counter(*pre_tokenizer, normalizer.get(), separators);
  while (const std::optional<std::string> text = next_text()) counter.add(*text);
  const PieceCounts& words = counter.result();
  if (words.entries().empty()) throw UsageError("cannot train a tokenizer: the corpus is empty");

  StringTable tokens;
  int32_t next_id = 0;
  for (const std::string& token : special) tokens.add(next_id++, token);
  const Alphabet alphabet(words, static_cast<size_t>(options.max_characters));
  for (const bool first : {true, false}) {
    for (const auto& [c, use] : alphabet.uses) {
      if (first ? use.begins || use.inside : use.inside) tokens.add(next_id++, piece_text(c, first));
    }
  }
  if (next_id > options.vocab_size) {
    throw UsageError(
        concat("vocab_size ", options.vocab_size, " is too small: the special tokens and characters are ", next_id),
        "a larger --vocab-size, or fewer characters");
  }
  WeightedWords symbols;
  for (const auto& entry : words.entries()) {
    const std::string_view word = words.text(entry);
    if (!alphabet.covers(word)) continue;
    const size_t before = symbols.symbols.size();
    for_each_character(word,
                       [&](uint32_t c, bool first) { symbols.symbols.push_back(tokens.find(piece_text(c, first))); });
    symbols.lengths.push_back(static_cast<uint32_t>(symbols.symbols.size() - before));
    symbols.counts.push_back(entry.count);
  }
  const MergeLimits limits{options.vocab_size, std::max<int64_t>(options.min_frequency, 1), 0,
                           BpeTieBreak::smallest_ids};
  learn_merges(std::move(symbols), limits, next_id, tokens, kPrefix);

  WordPieceParts parts;
  for (int32_t id = 0; id < tokens.id_limit(); ++id) parts.tokens.emplace_back(tokens.text(id));
  parts.lowercase = options.lowercase;
  parts.strip_accents = options.strip_accents;
  for (size_t i = 0; i < special.size(); ++i) {
    parts.added_tokens.push_back({.id = static_cast<int32_t>(i), .content = special[i], .special = true});
  }
  return make_wordpiece_tokenizer(parts, kName);
}

}  // namespace ondol
