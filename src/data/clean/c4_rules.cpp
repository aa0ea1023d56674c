#include <algorithm>

#include <ondol/base/error.h>
#include <ondol/data/quality_rules.h>

#include "data/clean/text_scan.h"
#include "data/clean/words.h"

namespace ondol {

namespace {

using namespace clean;

char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

/// `phrase` is lower-case ASCII.
bool contains_ignoring_case(std::string_view text, std::string_view phrase) {
  return std::search(text.begin(), text.end(), phrase.begin(), phrase.end(),
                     [](char a, char b) { return ascii_lower(a) == b; }) != text.end();
}

/// Sentence marks of the scripts that have their own, and quotation marks that close.
bool ends_in_terminal_punctuation(std::string_view line) {
  static constexpr std::string_view kMarks[] = {
      ".", "!", "?", "\"", "\xe2\x80\x9d", "\xe2\x80\x99", "\xc2\xbb", "。", "！", "？", "」", "』", "।", "۔", "؟"};
  if (line.ends_with("...") || line.ends_with("\xe2\x80\xa6")) return false;  // a text that was cut off
  return std::any_of(std::begin(kMarks), std::end(kMarks), [&](std::string_view mark) { return line.ends_with(mark); });
}

bool is_policy_line(std::string_view line) {
  static constexpr std::string_view kPhrases[] = {"terms of use", "privacy policy", "cookie policy",
                                                  "uses cookies", "use of cookies", "use cookies"};
  return std::any_of(std::begin(kPhrases), std::end(kPhrases),
                     [&](std::string_view phrase) { return contains_ignoring_case(line, phrase); });
}

/// Takes [12], [edit] and [citation needed] out of a line.
bool drop_citations(std::string& line) {
  bool any = false;
  for (size_t open = line.find('['); open != std::string::npos; open = line.find('[', open)) {
    const size_t close = line.find(']', open);
    if (close == std::string::npos) break;
    const std::string_view inside = std::string_view(line).substr(open + 1, close - open - 1);
    const bool number = !inside.empty() && inside.size() <= 3 &&
                        std::all_of(inside.begin(), inside.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number || inside == "edit" || inside == "citation needed") {
      line.erase(open, close + 1 - open);
      any = true;
    } else {
      ++open;
    }
  }
  return any;
}

/// Ends of sentences: marks that white space, a quotation mark or the end of the line follows; a line is at least one.
int64_t count_sentences(std::string_view line) {
  int64_t count = 0;
  bool open = false;  // characters since the last end
  for (size_t i = 0; i < line.size(); ++i) {
    const bool ascii_mark = line[i] == '.' || line[i] == '!' || line[i] == '?';
    const std::string_view rest = line.substr(i);
    const bool wide_mark = rest.starts_with("。") || rest.starts_with("！") || rest.starts_with("？");
    if (!ascii_mark && !wide_mark) {
      open = open || !is_ascii_space(line[i]);
      continue;
    }
    const bool ends = wide_mark || i + 1 == line.size() || is_ascii_space(line[i + 1]) || line[i + 1] == '"' ||
                      line[i + 1] == '\'' || line[i + 1] == ')' || static_cast<uint8_t>(line[i + 1]) >= 0x80;
    if (wide_mark) i += 2;
    if (ends && open) {
      ++count;
      open = false;
    }
  }
  return count + open;
}

}  // namespace

C4Rules::C4Rules(C4Options options) : options_(std::move(options)) {
  for (const std::string& phrase : options_.bad_words) {
    std::vector<uint64_t> hashes;
    word_hashes(phrase, hashes);
    if (!hashes.empty()) bad_phrases_.push_back(std::move(hashes));
  }
  std::sort(bad_phrases_.begin(), bad_phrases_.end());
}

RuleResult C4Rules::apply(std::string& text, C4Changes* changes) const {
  if (options_.curly_bracket && text.find('{') != std::string::npos) return {"curly_bracket", "{"};
  if (options_.lorem_ipsum && contains_ignoring_case(text, "lorem ipsum")) return {"lorem_ipsum", "lorem ipsum"};
  if (!bad_phrases_.empty()) {
    std::vector<uint64_t> words;
    std::vector<std::pair<size_t, size_t>> spans;
    word_hashes(text, words, &spans);
    for (size_t i = 0; i < words.size(); ++i) {
      auto phrase = std::lower_bound(bad_phrases_.begin(), bad_phrases_.end(), words[i],
                                     [](const auto& a, uint64_t first) { return a[0] < first; });
      for (; phrase != bad_phrases_.end() && (*phrase)[0] == words[i]; ++phrase) {
        if (phrase->size() > words.size() - i || !std::equal(phrase->begin(), phrase->end(), words.begin() + i)) {
          continue;
        }
        const size_t end = spans[i + phrase->size() - 1].second;
        return {"bad_word", text.substr(spans[i].first, end - spans[i].first)};
      }
    }
  }
  C4Changes counts;
  std::string kept;
  int64_t sentences = 0;
  for_each_line(text, [&](std::string_view part) {
    std::string line(part);
    if (options_.citations && drop_citations(line)) ++counts.citations;
    int64_t words = 0;
    size_t longest = 0;
    for_each_spaced_word(line, [&](std::string_view word) {
      ++words;
      longest = std::max(longest, word.size());
    });
    if (longest > static_cast<size_t>(options_.max_word_length)) {
      ++counts.long_word;
    } else if (options_.terminal_punctuation && !ends_in_terminal_punctuation(line)) {
      ++counts.terminal_punctuation;
    } else if (words < options_.min_words_per_line) {
      ++counts.short_line;
    } else if (options_.javascript && contains_ignoring_case(line, "javascript")) {
      ++counts.javascript;
    } else if (options_.policy_lines && is_policy_line(line)) {
      ++counts.policy;
    } else {
      sentences += count_sentences(line);
      if (!kept.empty()) kept += '\n';
      kept += line;
    }
  });
  if (kept.empty() || sentences < options_.min_sentences) {
    return {"too_few_sentences", concat(sentences, " below ", std::max<int64_t>(options_.min_sentences, 1))};
  }
  if (changes != nullptr) *changes = counts;
  if (counts.any()) text = std::move(kept);
  return {};
}

}  // namespace ondol
