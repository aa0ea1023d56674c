#include <algorithm>
#include <bit>
#include <cstdio>
#include <unordered_map>

#include <ondol/base/error.h>
#include <ondol/data/quality_rules.h>

#include "data/clean/text_scan.h"
#include "data/clean/words.h"
#include "tokenizer/hashing.h"

namespace ondol {

namespace {

using namespace clean;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

RuleResult above(const char* rule, double value, double limit) {
  return {rule, concat(number(value), " above ", number(limit))};
}
RuleResult below(const char* rule, double value, double limit) {
  return {rule, concat(number(value), " below ", number(limit))};
}

bool has_letter(std::string_view word) {
  for (size_t i = 0; i < word.size();) {
    const tokenization::CodePoint c = tokenization::decode_code_point(word, i);
    if (c.value != tokenization::kInvalidCodePoint && is_letter(tokenization::unicode_category(c.value))) return true;
    i += c.length;
  }
  return false;
}

constexpr std::string_view kEllipsis = "\xe2\x80\xa6";  // U+2026

int64_t count_of(std::string_view text, std::string_view part) {
  int64_t count = 0;
  for (size_t i = text.find(part); i != std::string_view::npos; i = text.find(part, i + part.size())) ++count;
  return count;
}

bool starts_with_bullet(std::string_view line) {
  // No dashes but the hyphen: they begin what people say in novels of many languages.
  static constexpr std::string_view kBullets[] = {"-", "*", "•", "‣", "●", "▪", "·", "◦", "■"};
  return std::any_of(std::begin(kBullets), std::end(kBullets),
                     [&](std::string_view bullet) { return line.starts_with(bullet); });
}

}  // namespace

RuleResult check_gopher_quality(std::string_view text, const GopherQualityOptions& options) {
  int64_t words = 0, characters = 0, alphabetic = 0;
  for_each_spaced_word(text, [&](std::string_view word) {
    ++words;
    characters += count_characters(word);
    alphabetic += has_letter(word);
  });
  if (words < options.min_words || words == 0) {
    return {"too_few_words", concat(words, " below ", options.min_words)};
  }
  if (words > options.max_words) return {"too_many_words", concat(words, " above ", options.max_words)};
  const auto all = static_cast<double>(words);
  const double mean = static_cast<double>(characters) / all;
  if (mean < options.min_mean_word_length) return below("mean_word_length", mean, options.min_mean_word_length);
  if (mean > options.max_mean_word_length) return above("mean_word_length", mean, options.max_mean_word_length);
  const double hashes = static_cast<double>(count_of(text, "#")) / all;
  if (hashes > options.max_symbol_ratio) return above("hash_ratio", hashes, options.max_symbol_ratio);
  const double ellipses = static_cast<double>(count_of(text, "...") + count_of(text, kEllipsis)) / all;
  if (ellipses > options.max_symbol_ratio) return above("ellipsis_ratio", ellipses, options.max_symbol_ratio);

  int64_t lines = 0, bullets = 0, trailing = 0;
  for_each_line(text, [&](std::string_view line) {
    ++lines;
    bullets += starts_with_bullet(line);
    trailing += line.ends_with("...") || line.ends_with(kEllipsis);
  });
  const auto of_lines = [&](int64_t count) { return static_cast<double>(count) / static_cast<double>(lines); };
  if (of_lines(bullets) > options.max_bullet_lines) {
    return above("bullet_lines", of_lines(bullets), options.max_bullet_lines);
  }
  if (of_lines(trailing) > options.max_ellipsis_lines) {
    return above("ellipsis_lines", of_lines(trailing), options.max_ellipsis_lines);
  }
  const double with_letters = static_cast<double>(alphabetic) / all;
  if (with_letters < options.min_alphabetic_words) {
    return below("alphabetic_words", with_letters, options.min_alphabetic_words);
  }
  if (options.min_stop_words > 0) {
    std::vector<bool> seen(options.stop_words.size());
    int64_t found = 0;
    WordReader reader(text);
    for (Word word; found < options.min_stop_words && reader.next(word);) {
      for (size_t i = 0; i < seen.size(); ++i) {
        if (seen[i] || word.text != options.stop_words[i]) continue;
        seen[i] = true;
        ++found;
      }
    }
    if (found < options.min_stop_words) return {"stop_words", concat(found, " below ", options.min_stop_words)};
  }
  return {};
}

namespace {

/// How many parts repeat an earlier one, and their share of the characters of all parts.
class Repeats {
 public:
  void add(std::string_view part) {
    const int64_t length = count_characters(part);
    ++parts_;
    characters_ += length;
    if (seen_[tokenization::hash_bytes(part)]++ == 0) return;
    ++repeated_;
    repeated_characters_ += length;
  }
  double share() const { return parts_ == 0 ? 0 : static_cast<double>(repeated_) / static_cast<double>(parts_); }
  double character_share() const {
    return characters_ == 0 ? 0 : static_cast<double>(repeated_characters_) / static_cast<double>(characters_);
  }

 private:
  std::unordered_map<uint64_t, int64_t> seen_;
  int64_t parts_ = 0, repeated_ = 0, characters_ = 0, repeated_characters_ = 0;
};

/// Parts between lines that are empty.
template <class Function>
void for_each_paragraph(std::string_view text, const Function& paragraph) {
  size_t begin = std::string_view::npos, end = 0;
  const auto finish = [&] {
    if (begin != std::string_view::npos) paragraph(trimmed(text.substr(begin, end - begin)));
    begin = std::string_view::npos;
  };
  for (size_t i = 0; i < text.size();) {
    const size_t line_end = std::min(text.find('\n', i), text.size());
    if (trimmed(text.substr(i, line_end - i)).empty()) {
      finish();
    } else {
      if (begin == std::string_view::npos) begin = i;
      end = line_end;
    }
    i = line_end + 1;
  }
  finish();
}

/// Numbers keys in the order of their first occurrence. Open addressing: this is where the time of the rules goes.
class Numbering {
 public:
  explicit Numbering(size_t keys) : slots_(std::bit_ceil(2 * keys + 1), Slot{0, kEmpty}) {}
  uint32_t of(uint64_t key) {
    size_t i = tokenization::hash_words(key, 0) & (slots_.size() - 1);
    while (slots_[i].number != kEmpty && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    if (slots_[i].number == kEmpty) slots_[i] = {key, count_++};
    return slots_[i].number;
  }
  uint32_t count() const { return count_; }

 private:
  static constexpr uint32_t kEmpty = 0xffffffffu;
  struct Slot {
    uint64_t key;
    uint32_t number;
  };
  std::vector<Slot> slots_;
  uint32_t count_ = 0;
};

/// A run that occurs once; so do all longer ones that begin there.
constexpr uint32_t kUnique = 0xffffffffu;

/// Words between white space, numbered so that equal words have equal numbers; with their lengths in characters.
struct NumberedWords {
  std::vector<uint32_t> ids;
  std::vector<int64_t> starts;  // characters before word i, white space left out; one more at the end

  explicit NumberedWords(std::string_view text) {
    std::vector<uint64_t> hashes;
    starts.push_back(0);
    for_each_spaced_word(text, [&](std::string_view word) {
      hashes.push_back(tokenization::hash_bytes(word));
      starts.push_back(starts.back() + count_characters(word));
    });
    Numbering numbering(hashes.size());
    for (const uint64_t hash : hashes) ids.push_back(numbering.of(hash));
  }
  int64_t characters(size_t begin, size_t count) const { return starts[begin + count] - starts[begin]; }
};

/// Numbers runs of n words, from the numbers of runs that are one shorter, so that equal runs have equal numbers; runs
/// that occur once become kUnique. Returns how often each number occurs.
std::vector<uint32_t> number_longer_runs(const std::vector<uint32_t>& words, size_t n, std::vector<uint32_t>& runs) {
  const size_t repeated = runs.size() - static_cast<size_t>(std::count(runs.begin(), runs.end(), kUnique));
  runs.pop_back();  // what it begins reaches beyond the text
  Numbering numbering(repeated);
  std::vector<uint32_t> counts;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i] == kUnique) continue;
    runs[i] = numbering.of(uint64_t{runs[i]} << 32 | words[i + n - 1]);
    counts.resize(numbering.count());
    ++counts[runs[i]];
  }
  for (uint32_t& run : runs) {
    if (run != kUnique && counts[run] == 1) run = kUnique;
  }
  return counts;
}

int64_t characters_of_top(const NumberedWords& words, const std::vector<uint32_t>& runs,
                          const std::vector<uint32_t>& counts, size_t n) {
  int64_t best_characters = 0;
  uint32_t best_count = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i] == kUnique || counts[runs[i]] < best_count) continue;
    const uint32_t count = counts[runs[i]];
    const int64_t characters = words.characters(i, n) * count;
    if (count > best_count || characters > best_characters) best_characters = characters;
    best_count = count;
  }
  return best_characters;
}

int64_t characters_of_duplicates(const NumberedWords& words, const std::vector<uint32_t>& runs, size_t n) {
  int64_t characters = 0;
  size_t counted = 0;  // words before this one are done
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i] == kUnique) continue;
    const size_t begin = std::max(i, counted);
    characters += words.starts[i + n] - words.starts[begin];
    counted = i + n;
  }
  return characters;
}

}  // namespace

RepetitionShares repetition_shares(std::string_view text) {
  RepetitionShares shares;
  Repeats lines, paragraphs;
  for_each_line(text, [&](std::string_view line) { lines.add(line); });
  for_each_paragraph(text, [&](std::string_view paragraph) { paragraphs.add(paragraph); });
  shares.duplicate_lines = lines.share();
  shares.duplicate_line_characters = lines.character_share();
  shares.duplicate_paragraphs = paragraphs.share();
  shares.duplicate_paragraph_characters = paragraphs.character_share();

  const NumberedWords words(text);
  const auto all = static_cast<double>(words.starts.back());
  std::vector<uint32_t> runs = words.ids;
  for (size_t n = 2; n <= 10 && runs.size() > 1; ++n) {
    const std::vector<uint32_t> counts = number_longer_runs(words.ids, n, runs);
    if (n <= 4) {
      const auto top = static_cast<double>(characters_of_top(words, runs, counts, n));
      shares.top_ngram_characters[n - 2] = std::min(1.0, top / all);  // occurrences may overlap
    } else {
      shares.duplicate_ngram_characters[n - 5] = static_cast<double>(characters_of_duplicates(words, runs, n)) / all;
    }
  }
  return shares;
}

RuleResult check_gopher_repetition(std::string_view text, const GopherRepetitionOptions& options) {
  const RepetitionShares shares = repetition_shares(text);
  const auto check = [](const std::string& rule, double value, double limit) {
    return value > limit ? above(rule.c_str(), value, limit) : RuleResult{};
  };
  RuleResult result = check("duplicate_lines", shares.duplicate_lines, options.max_duplicate_lines);
  const auto next = [&](const std::string& rule, double value, double limit) {
    if (result.keep()) result = check(rule, value, limit);
  };
  next("duplicate_paragraphs", shares.duplicate_paragraphs, options.max_duplicate_paragraphs);
  next("duplicate_line_characters", shares.duplicate_line_characters, options.max_duplicate_line_characters);
  next("duplicate_paragraph_characters", shares.duplicate_paragraph_characters,
       options.max_duplicate_paragraph_characters);
  for (size_t i = 0; i < shares.top_ngram_characters.size(); ++i) {
    next(concat("top_", i + 2, "gram"), shares.top_ngram_characters[i], options.max_top_ngram_characters[i]);
  }
  for (size_t i = 0; i < shares.duplicate_ngram_characters.size(); ++i) {
    next(concat("duplicate_", i + 5, "grams"), shares.duplicate_ngram_characters[i],
         options.max_duplicate_ngram_characters[i]);
  }
  return result;
}

}  // namespace ondol
