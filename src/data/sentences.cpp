#include <ondol/data/sentences.h>

#include <algorithm>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr std::string_view kBlank = " \t\r\n\v\f";
constexpr std::string_view kEnds[] = {".", "!", "?", "\u2026"};
constexpr std::string_view kWideEnds[] = {"\u3002", "\uFF01", "\uFF1F"};
constexpr std::string_view kClosing[] = {"\"", "'", ")", "]", "\u201D", "\u2019", "\u300D", "\u300F", "\uFF09"};
constexpr std::string_view kAbbreviations[] = {"Mr",  "Mrs", "Ms",  "Dr",  "Prof", "St",  "Gen", "Col", "Capt", "Lt",
                                               "Sgt", "Rev", "Hon", "Jr",  "Sr",   "vs",  "etc", "e.g", "i.e",  "cf",
                                               "No",  "Vol", "pp",  "Fig", "al",   "Inc", "Ltd", "Co",  "Corp"};

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_small(char c) { return c >= 'a' && c <= 'z'; }

/// The length of the mark of a list that stands at a place; 0: none.
template <size_t N>
size_t mark_at(const std::string_view (&marks)[N], std::string_view text, size_t at) {
  for (const std::string_view mark : marks) {
    if (text.substr(at).starts_with(mark)) return mark.size();
  }
  return 0;
}

/// Whether the full stop at `at` belongs to the word before it.
bool is_abbreviation(std::string_view line, size_t at) {
  size_t begin = at;
  while (begin > 0 && (is_letter(line[begin - 1]) || line[begin - 1] == '.')) --begin;
  const std::string_view word = line.substr(begin, at - begin);
  const bool initial = word.size() == 1 && !is_small(word[0]);
  return initial || std::find(std::begin(kAbbreviations), std::end(kAbbreviations), word) != std::end(kAbbreviations);
}

void split_line(std::string_view line, std::vector<std::string_view>& out) {
  const auto add = [&out](std::string_view sentence) {
    sentence = trimmed(sentence);
    if (!sentence.empty()) out.push_back(sentence);
  };
  size_t begin = 0;
  for (size_t i = 0; i < line.size();) {
    const size_t end = mark_at(kEnds, line, i), wide = mark_at(kWideEnds, line, i);
    if (end == 0 && wide == 0) {
      ++i;
      continue;
    }
    bool stops = wide > 0 || line[i] != '.' || !is_abbreviation(line, i);
    i += end + wide;
    for (size_t closing; (closing = mark_at(kClosing, line, i)) > 0;) i += closing;
    if (mark_at(kEnds, line, i) > 0 || mark_at(kWideEnds, line, i) > 0) continue;  // "?!", "..."
    if (wide == 0) {
      const size_t next = line.find_first_not_of(kBlank, i);
      stops = stops && next != std::string_view::npos && next > i && !is_small(line[next]);
    }
    if (!stops) continue;
    add(line.substr(begin, i - begin));
    begin = i;
  }
  add(line.substr(begin));
}

}  // namespace

std::vector<std::string_view> split_sentences(std::string_view text, SentenceSplit split) {
  if (split == SentenceSplit::none) return {text};
  std::vector<std::string_view> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trimmed(text.substr(begin, end - begin));
    if (split == SentenceSplit::punctuation) {
      split_line(line, out);
    } else if (!line.empty()) {
      out.push_back(line);
    }
    begin = end + 1;
  }
  return out;
}

SentenceSplit parse_sentence_split(const std::string& name) {
  for (const SentenceSplit split : {SentenceSplit::none, SentenceSplit::lines, SentenceSplit::punctuation}) {
    if (name == to_string(split)) return split;
  }
  throw UsageError("unknown way to split sentences: \"" + name + "\"", "known are none, lines and punctuation");
}

std::string to_string(SentenceSplit split) {
  switch (split) {
    case SentenceSplit::lines:
      return "lines";
    case SentenceSplit::punctuation:
      return "punctuation";
    default:
      return "none";
  }
}

}  // namespace ondol
