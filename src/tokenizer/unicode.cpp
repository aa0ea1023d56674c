#include "tokenizer/unicode.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/unicode_data.h"

namespace ondol::tokenization {

namespace {

/// Categories of all code points, equal pages of 256 stored once.
struct CategoryTable {
  uint16_t page[0x1100];
  std::vector<uint8_t> data;

  CategoryTable() {
    std::map<std::string, uint16_t> known;
    size_t run = 0;
    std::string bytes(256, '\0');
    for (uint32_t p = 0; p < 0x1100; ++p) {
      for (uint32_t i = 0; i < 256; ++i) {
        const uint32_t code_point = p * 256 + i;
        while (run + 1 < kNumCategoryRuns && (kCategoryRuns[run + 1] >> 5) <= code_point) ++run;
        bytes[i] = static_cast<char>(kCategoryRuns[run] & 31u);
      }
      const auto [entry, added] = known.try_emplace(bytes, static_cast<uint16_t>(known.size()));
      if (added) data.insert(data.end(), bytes.begin(), bytes.end());
      page[p] = entry->second;
    }
  }
};

const CategoryTable& categories() {
  static const CategoryTable table;
  return table;
}

CharClass classify(uint32_t code_point, Category category) {
  if (code_point == '\n' || code_point == '\r') return CharClass::newline;
  if (is_white_space(code_point)) return CharClass::space;
  if (is_letter(category)) return CharClass::letter;
  if (is_number(category)) return CharClass::number;
  return CharClass::other;
}

struct OwnedCharClassTable : CharClassTable {
  std::vector<CharClass> storage;

  OwnedCharClassTable() {
    const CategoryTable& from = categories();
    storage.resize(from.data.size());
    std::vector<bool> done(from.data.size() / 256);
    // White space differs from its category only in the first page (controls), whose contents no other page shares.
    for (uint32_t p = 0; p < 0x1100; ++p) {
      page[p] = from.page[p];
      if (done[page[p]]) continue;
      done[page[p]] = true;
      for (uint32_t i = 0; i < 256; ++i) {
        const size_t at = size_t{page[p]} * 256 + i;
        storage[at] = classify(p * 256 + i, static_cast<Category>(from.data[at]));
      }
    }
    data = reinterpret_cast<CharClass(*)[256]>(storage.data());
  }
};

}  // namespace

Category unicode_category(uint32_t code_point) {
  if (code_point > 0x10ffff) return Category::Cn;
  const CategoryTable& table = categories();
  return static_cast<Category>(table.data[size_t{table.page[code_point >> 8]} * 256 + (code_point & 255)]);
}

bool assigned_by_unicode(uint32_t code_point, int version) {
  const uint32_t* end = kLaterRuns + kNumLaterRuns;
  const uint32_t* after = std::upper_bound(kLaterRuns, end, code_point << 4 | 15u);
  return after == kLaterRuns || static_cast<int>(after[-1] & 15u) <= version;
}

uint32_t to_lowercase(uint32_t code_point) {
  if (code_point < 0x80) return code_point - 'A' < 26 ? code_point + 32 : code_point;
  if (code_point == 0x130) return 'i';
  const LowercaseRun* end = kLowercaseRuns + kNumLowercaseRuns;
  const LowercaseRun* after = std::upper_bound(
      kLowercaseRuns, end, code_point, [](uint32_t value, const LowercaseRun& run) { return value < run.first; });
  if (after == kLowercaseRuns) return code_point;
  const LowercaseRun& run = *std::prev(after);
  const uint32_t distance = code_point - run.first;
  if (distance % run.stride != 0 || distance / run.stride >= run.count) return code_point;
  return code_point + static_cast<uint32_t>(run.delta);
}

bool is_white_space(uint32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= 9 && code_point <= 13);
  if (code_point == 0x85) return true;
  const Category category = unicode_category(code_point);
  return category >= Category::Zs && category <= Category::Zp;
}

/// Circled and squared letters: symbols with the property Alphabetic.
static bool is_letter_like_symbol(uint32_t c) {
  return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
         (c >= 0x1f170 && c <= 0x1f189);
}

bool is_word_character(uint32_t code_point) {
  const Category c = unicode_category(code_point);
  return is_letter(c) || is_mark(c) || c == Category::Nd || c == Category::Nl || c == Category::Pc ||
         code_point == 0x200c || code_point == 0x200d || is_letter_like_symbol(code_point);
}

const CharClassTable& char_classes() {
  static const OwnedCharClassTable table;
  return table;
}

}  // namespace ondol::tokenization
