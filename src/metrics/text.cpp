#include "metrics/text.h"

#include "tokenizer/unicode.h"

namespace ondol::metrics {

namespace {

using tokenization::Category;
using tokenization::unicode_category;

bool is_cased(uint32_t c) {
  const Category category = unicode_category(c);
  return category >= Category::Lu && category <= Category::Lt;
}

/// The property Case_Ignorable.
bool is_case_ignorable(uint32_t c) {
  switch (c) {
    case '\'':
    case '.':
    case ':':
    case 0xb7:
    case 0x387:
    case 0x55f:
    case 0x5f4:
    case 0x2018:
    case 0x2019:
    case 0x2024:
    case 0x2027:
    case 0xfe13:
    case 0xfe52:
    case 0xfe55:
    case 0xff07:
    case 0xff0e:
    case 0xff1a:
      return true;
    default:
      break;
  }
  const Category category = unicode_category(c);
  return category == Category::Mn || category == Category::Me || category == Category::Cf || category == Category::Lm ||
         category == Category::Sk;
}

/// Whether the sigma at `at` ends a word: a cased letter stands before it and none behind it.
bool is_final_sigma(const std::vector<uint32_t>& text, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

}  // namespace

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const tokenization::CodePoint c = tokenization::decode_code_point(text, i);
    result.push_back(c.value == tokenization::kInvalidCodePoint ? static_cast<uint8_t>(text[i]) : c.value);
    i += c.length;
  }
  return result;
}

std::string to_utf8(const std::vector<uint32_t>& text) {
  std::string result;
  result.reserve(text.size());
  for (const uint32_t c : text) tokenization::append_utf8(c, result);
  return result;
}

bool is_space(uint32_t code_point) {
  return tokenization::is_white_space(code_point) || (code_point >= 0x1c && code_point <= 0x1f);
}

bool is_word(uint32_t code_point) {
  const Category category = unicode_category(code_point);
  return tokenization::is_letter(category) || tokenization::is_number(category) || code_point == '_';
}

bool is_ascii_punctuation(uint32_t code_point) {
  return (code_point >= '!' && code_point <= '/') || (code_point >= ':' && code_point <= '@') ||
         (code_point >= '[' && code_point <= '`') || (code_point >= '{' && code_point <= '~');
}

std::vector<uint32_t> lowercase(const std::vector<uint32_t>& text) {
  constexpr uint32_t kCapitalSigma = 0x3a3, kFinalSigma = 0x3c2, kCapitalDottedI = 0x130, kDotAbove = 0x307;
  std::vector<uint32_t> result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const bool final_sigma = text[i] == kCapitalSigma && is_final_sigma(text, i);
    result.push_back(final_sigma ? kFinalSigma : tokenization::to_lowercase(text[i]));
    if (text[i] == kCapitalDottedI) result.push_back(kDotAbove);
  }
  return result;
}

std::vector<std::vector<uint32_t>> split(const std::vector<uint32_t>& text) {
  std::vector<std::vector<uint32_t>> words;
  bool inside = false;
  for (const uint32_t c : text) {
    const bool space = is_space(c);
    if (!space && !inside) words.emplace_back();
    if (!space) words.back().push_back(c);
    inside = !space;
  }
  return words;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const tokenization::CodePoint c = tokenization::decode_code_point(text, i);
    const bool space = c.value != tokenization::kInvalidCodePoint && is_space(c.value);
    if (!space && !inside) words.emplace_back();
    if (!space) words.back().append(text.substr(i, c.length));
    inside = !space;
    i += c.length;
  }
  return words;
}

}  // namespace ondol::metrics
