// Rules of thumb that tell running text from what web pages hold besides.
//
//   const RuleResult result = check_gopher_quality(text, {});
//   if (!result.keep()) std::cerr << result.rule << ": " << result.detail;    // "mean_word_length: 12.4 above 10"
//
//   const C4Rules c4({.bad_words = {"…"}});
//   std::string text = …;
//   const RuleResult result = c4.apply(text);                                 // drops lines; the text may become
//   shorter
//
// Sources: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix
// A.1.1 and table A1; Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
// Transformer", section 2.2. Defaults are the papers' thresholds.
//
// Words are runs of characters between white space and lengths count characters (code points), so the Gopher rules and
// the sentence rule of C4 mean little for languages that are written without spaces. All functions may be called from
// several threads at once.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol {

/// What a rule says of a document.
struct RuleResult {
  std::string rule;    // the one that drops it; empty: the document is kept
  std::string detail;  // the number that was too high or too low, or what was found
  bool keep() const { return rule.empty(); }
};

struct GopherQualityOptions {
  int64_t min_words = 50;
  int64_t max_words = 100000;
  double min_mean_word_length = 3;
  double max_mean_word_length = 10;
  double max_symbol_ratio = 0.1;  // "#", and likewise ellipses, for each word
  double max_bullet_lines = 0.9;
  double max_ellipsis_lines = 0.3;
  double min_alphabetic_words = 0.8;
  /// So many different ones of `stop_words` must occur (lower case; 0 for other languages than theirs).
  int64_t min_stop_words = 2;
  std::vector<std::string> stop_words = {"the", "be", "to", "of", "and", "that", "have", "with"};
};

/// Rules, in this order: too_few_words, too_many_words, mean_word_length, hash_ratio, ellipsis_ratio, bullet_lines,
/// ellipsis_lines, alphabetic_words, stop_words.
RuleResult check_gopher_quality(std::string_view text, const GopherQualityOptions& options);

struct GopherRepetitionOptions {
  double max_duplicate_lines = 0.30;
  double max_duplicate_paragraphs = 0.30;
  double max_duplicate_line_characters = 0.20;
  double max_duplicate_paragraph_characters = 0.20;
  std::array<double, 3> max_top_ngram_characters = {0.20, 0.18, 0.16};                          // of 2, 3, 4 words
  std::array<double, 6> max_duplicate_ngram_characters = {0.15, 0.14, 0.13, 0.12, 0.11, 0.10};  // of 5 to 10 words
};

/// The shares that the repetition rules judge.
struct RepetitionShares {
  // Lines (paragraphs: parts between empty lines) that repeat an earlier one, of all that are not empty.
  double duplicate_lines = 0, duplicate_paragraphs = 0;
  double duplicate_line_characters = 0, duplicate_paragraph_characters = 0;
  // Characters, white space left out, in the most frequent n-gram that occurs at least twice (of equally frequent ones
  // in that with the most characters).
  std::array<double, 3> top_ngram_characters{};
  // Characters in any n-gram that occurs at least twice, all occurrences, none counted twice.
  std::array<double, 6> duplicate_ngram_characters{};
};
RepetitionShares repetition_shares(std::string_view text);

/// Rules: duplicate_lines, duplicate_paragraphs, duplicate_line_characters, duplicate_paragraph_characters,
/// top_2gram … top_4gram, duplicate_5grams … duplicate_10grams.
RuleResult check_gopher_repetition(std::string_view text, const GopherRepetitionOptions& options);

struct C4Options {
  bool terminal_punctuation = true;  // lines that do not end in . ! ? or a closing quotation mark go
  int64_t min_words_per_line = 3;    // shorter lines go
  int64_t max_word_length = 1000;    // lines with a longer word go
  bool javascript = true;            // lines with the word "javascript" go
  bool policy_lines = true;          // lines about terms of use, privacy and cookies go
  bool citations = true;             // [1], [citation needed] and [edit] are taken out of the text
  int64_t min_sentences = 5;         // of what remains
  bool lorem_ipsum = true;
  bool curly_bracket = true;
  std::vector<std::string> bad_words;  // a document with one of them goes; words or phrases, case does not matter
};

/// Lines that went, by rule.
struct C4Changes {
  int64_t terminal_punctuation = 0, short_line = 0, long_word = 0, javascript = 0, policy = 0, citations = 0;
  bool any() const { return terminal_punctuation + short_line + long_word + javascript + policy + citations > 0; }
};

class C4Rules {
 public:
  explicit C4Rules(C4Options options);
  /// Rules: curly_bracket, lorem_ipsum, bad_word, too_few_sentences. The text is changed only when the document is
  /// kept: lines are trimmed and joined with one line break.
  RuleResult apply(std::string& text, C4Changes* changes = nullptr) const;

 private:
  C4Options options_;
  std::vector<std::vector<uint64_t>> bad_phrases_;  // hashes of their words, sorted by the first
};

}  // namespace ondol
