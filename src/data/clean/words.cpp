#include "data/clean/words.h"

#include <array>
#include <memory>

#include "tokenizer/hashing.h"
#include "tokenizer/tracked_text.h"
#include "tokenizer/unicode.h"
#include "tokenizer/unicode_normalization.h"
#include "tokenizer/utf8.h"

namespace ondol::clean {

namespace {

using namespace tokenization;

enum class WordClass : uint8_t { separator, inside, upper, alone };

bool is_unspaced(uint32_t c) {
  return (c >= 0x0e00 && c <= 0x0eff) ||  // Thai, Lao
         (c >= 0x1000 && c <= 0x109f) ||  // Myanmar
         (c >= 0x1780 && c <= 0x17ff) ||  // Khmer
         (c >= 0x2e80 && c <= 0x2fdf) ||  // radicals
         (c >= 0x3005 && c <= 0x3007) ||  // iteration marks
         (c >= 0x3021 && c <= 0x30ff) ||  // numerals, kana
         (c >= 0x3400 && c <= 0x4dbf) ||  // Han
         (c >= 0x4e00 && c <= 0x9fff) ||  //
         (c >= 0xf900 && c <= 0xfaff) ||  //
         (c >= 0xff66 && c <= 0xff9f) ||  // half-width kana
         (c >= 0x20000 && c <= 0x3ffff);
}

WordClass classify(uint32_t c) {
  if (!is_word_character(c)) return WordClass::separator;
  if (is_unspaced(c)) return WordClass::alone;
  const Category category = unicode_category(c);
  return category == Category::Lu || category == Category::Lt ? WordClass::upper : WordClass::inside;
}

/// The classes of all code points of the first plane; the others are looked up one by one.
WordClass word_class(uint32_t c) {
  static const std::unique_ptr<const std::array<WordClass, 0x10000>> table = [] {
    auto made = std::make_unique<std::array<WordClass, 0x10000>>();
    for (uint32_t i = 0; i < 0x10000; ++i) (*made)[i] = classify(i);
    return made;
  }();
  return c < 0x10000 ? (*table)[c] : classify(c);
}

/// The lower case of ASCII letters and digits and the underscore, 0 for what separates.
constexpr std::array<char, 128> kAsciiWord = [] {
  std::array<char, 128> table{};
  for (char c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = c;
  for (char c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = static_cast<char>(c + 32);
  for (char c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = c;
  table['_'] = '_';
  return table;
}();

}  // namespace

bool WordReader::next(Word& word) {
  buffer_.clear();
  bool ascii = true;
  size_t begin = position_;
  while (position_ < text_.size()) {
    const auto byte = static_cast<uint8_t>(text_[position_]);
    if (byte < 0x80) {
      const char lower = kAsciiWord[byte];
      if (lower == 0) {
        if (!buffer_.empty()) break;
        begin = ++position_;
        continue;
      }
      buffer_ += lower;
      ++position_;
      continue;
    }
    const CodePoint c = decode_code_point(text_, position_);
    const WordClass kind = c.value == kInvalidCodePoint ? WordClass::separator : word_class(c.value);
    if (kind == WordClass::separator || kind == WordClass::alone) {
      if (!buffer_.empty()) break;
      begin = position_;
      position_ += c.length;
      if (kind == WordClass::separator) {
        begin = position_;
        continue;
      }
      ascii = false;
      append_utf8(c.value, buffer_);
      break;
    }
    ascii = false;
    append_utf8(kind == WordClass::upper ? to_lowercase(c.value) : c.value, buffer_);
    position_ += c.length;
  }
  if (buffer_.empty()) return false;
  word.begin = begin;
  word.end = position_;
  word.text = buffer_;
  if (!ascii && !is_surely_normalized(buffer_, NormalizationForm::nfkc)) {
    composed_.clear();
    TextWriter writer(composed_, nullptr);
    normalize_unicode(buffer_, NormalizationForm::nfkc, writer);
    word.text = composed_;
  }
  return true;
}

void word_hashes(std::string_view text, std::vector<uint64_t>& hashes, std::vector<std::pair<size_t, size_t>>* spans) {
  hashes.clear();
  if (spans != nullptr) spans->clear();
  WordReader reader(text);
  for (Word word; reader.next(word);) {
    hashes.push_back(hash_bytes(word.text));
    if (spans != nullptr) spans->emplace_back(word.begin, word.end);
  }
}

void ngram_hashes(const std::vector<uint64_t>& words, size_t n, std::vector<uint64_t>& hashes) {
  hashes.clear();
  if (words.empty()) return;
  n = std::min(n, words.size());
  // A polynomial in an odd number that leaves a word again as it comes: constant work a run whatever n is.
  constexpr uint64_t kBase = 0x9e3779b97f4a7c15u;
  uint64_t leaving = 1;
  for (size_t i = 0; i < n; ++i) leaving *= kBase;
  uint64_t run = 0;
  hashes.reserve(words.size() - n + 1);
  for (size_t i = 0; i < words.size(); ++i) {
    run = run * kBase + words[i];
    if (i >= n) run -= leaving * words[i - n];
    if (i + 1 >= n) hashes.push_back(tokenization::hash_words(run, n));
  }
}

}  // namespace ondol::clean
