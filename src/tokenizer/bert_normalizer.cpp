// BertNormalizer: cleaning, spaces around Chinese characters, accents, lower case (Devlin et al. 2018, the
// BasicTokenizer), one pass over the text with a table of what becomes of each character.
#include <ondol/base/error.h>

#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"
#include "tokenizer/unicode_normalization.h"

namespace ondol::tokenization {

namespace {

/// Unicode known to the reference's character classes.
constexpr int kClassesVersion = 8;

constexpr uint32_t kTableLimit = 0x3000;
constexpr uint32_t kSyllableBase = 0xac00, kSyllableCount = 11172;

bool is_chinese(uint32_t c) {
  // The range from U+2B920 is as the reference has it.
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
         (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

bool is_removed(uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  if (c == 0 || c == 0xfffd || c == kInvalidCodePoint) return true;
  const Category category = unicode_category(c);
  if (category == Category::Cc || category == Category::Co) return true;
  return category == Category::Cf && assigned_by_unicode(c, kClassesVersion);
}

class BertNormalizer : public Rewriter {
 public:
  BertNormalizer(bool clean, bool chinese, bool strip_accents, bool lowercase)
      : clean_(clean), chinese_(chinese), strip_accents_(strip_accents), lowercase_(lowercase) {
    table_.reserve(kTableLimit + 1);
    for (uint32_t c = 0; c < kTableLimit; ++c) {
      table_.push_back(static_cast<uint32_t>(mapped_.size()));
      map(c, mapped_);
    }
    table_.push_back(static_cast<uint32_t>(mapped_.size()));
  }

  bool rewrite(std::string_view text, TextWriter& out) const override {
    std::string scratch;
    for (size_t i = 0; i < text.size();) {
      const auto byte = static_cast<uint8_t>(text[i]);
      if (byte < 0x80) {
        if (table_[byte + 1] != table_[byte]) out.append(mapped_[table_[byte]], {i, i + 1});
        ++i;
        continue;
      }
      const CodePoint c = decode_code_point(text, i);
      const Origin from{i, i + c.length};
      if (c.value < kTableLimit) {
        out.append({mapped_.data() + table_[c.value], table_[c.value + 1] - table_[c.value]}, from);
      } else if (c.value == kInvalidCodePoint && !clean_) {
        out.append(text[i], from);
      } else if (c.value - kSyllableBase < kSyllableCount) {
        append_syllable(c.value, text.substr(i, c.length), from, out);
      } else {
        scratch.clear();
        map(c.value, scratch);
        out.append(scratch, from);
      }
      i += c.length;
    }
    return true;
  }

 private:
  void map(uint32_t c, std::string& out) const {
    if (clean_) {
      if (is_removed(c)) return;
      if (is_white_space(c)) c = ' ';
    }
    const bool spaced = chinese_ && is_chinese(c);
    if (spaced) out += ' ';
    if (c >= 0x3400 && c <= 0x9fff) {  // ideographs, which have neither case nor accents
      append_utf8(c, out);
    } else if (strip_accents_) {
      std::vector<uint32_t> parts;
      decompose_canonically(c, parts);
      for (const uint32_t part : parts) {
        if (unicode_category(part) == Category::Mn && assigned_by_unicode(part, kClassesVersion)) continue;
        append_lowered(part, out);
      }
    } else {
      append_lowered(c, out);
    }
    if (spaced) out += ' ';
  }

  /// Without its letters' accents a Korean syllable is its letters.
  void append_syllable(uint32_t c, std::string_view syllable, Origin from, TextWriter& out) const {
    if (!strip_accents_) return out.append(syllable, from);
    const uint32_t index = c - kSyllableBase;
    out.append_code_point(0x1100 + index / (21 * 28), from);
    out.append_code_point(0x1161 + index / 28 % 21, from);
    if (index % 28 != 0) out.append_code_point(0x11a7 + index % 28, from);
  }

  void append_lowered(uint32_t c, std::string& out) const {
    append_utf8(lowercase_ ? to_lowercase(c) : c, out);
    if (lowercase_ && c == 0x130) append_utf8(0x307, out);
  }

  bool clean_, chinese_, strip_accents_, lowercase_;
  std::vector<uint32_t> table_;  // where in mapped_ the text of each code point begins
  std::string mapped_;
};

}  // namespace

std::unique_ptr<Rewriter> make_bert_normalizer(const Json& spec, const std::string& where) {
  const bool lowercase = bool_at(spec, "lowercase", true, where);
  return std::make_unique<BertNormalizer>(bool_at(spec, "clean_text", true, where),
                                          bool_at(spec, "handle_chinese_chars", true, where),
                                          bool_at(spec, "strip_accents", lowercase, where), lowercase);
}

}  // namespace ondol::tokenization
