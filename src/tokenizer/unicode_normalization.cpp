#include "tokenizer/unicode_normalization.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tokenizer/unicode_data.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

// Hangul syllables decompose by arithmetic (The Unicode Standard, section 3.12).
constexpr uint32_t kSyllableBase = 0xac00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTailBase = 0x11a7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr uint32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

bool is_syllable(uint32_t c) { return c - kSyllableBase < kSyllableCount; }

struct NormalizationTables {
  struct Decomposition {
    uint32_t first, second;  // second 0: a singleton
  };
  std::unordered_map<uint32_t, Decomposition> decompositions;
  std::unordered_map<uint64_t, uint32_t> compositions;                // first << 32 | second
  std::unordered_map<uint32_t, std::vector<uint32_t>> compatibility;  // full decompositions
  std::vector<uint8_t> combining_class;                               // of code points below kLimit
  std::vector<bool> changes_in_nfc;            // decomposes, may compose with what precedes, or has a combining class
  static constexpr uint32_t kLimit = 0x30000;  // all decompositions and combining classes lie below

  NormalizationTables() : combining_class(kLimit, 0), changes_in_nfc(kLimit, false) {
    for (size_t i = 0; i < kNumCombiningClassRuns; ++i) {
      const uint32_t begin = kCombiningClassRuns[i] >> 8;
      const uint32_t end = i + 1 < kNumCombiningClassRuns ? kCombiningClassRuns[i + 1] >> 8 : begin;
      std::fill(combining_class.begin() + begin, combining_class.begin() + end,
                static_cast<uint8_t>(kCombiningClassRuns[i] & 255u));
    }
    for (uint32_t c = 0; c < kLimit; ++c) changes_in_nfc[c] = combining_class[c] != 0;
    for (size_t i = 0; i < kNumSingletonDecompositions; ++i) {
      const SingletonDecomposition& d = kSingletonDecompositions[i];
      decompositions[d.code_point] = {d.to, 0};
      changes_in_nfc[d.code_point] = true;
    }
    for (size_t i = 0; i < kNumPairDecompositions; ++i) {
      const PairDecomposition& d = kPairDecompositions[i];
      const uint32_t code_point = d.code_point & ~kComposesBit;
      decompositions[code_point] = {d.first, d.second};
      if (d.code_point & kComposesBit) {
        compositions[uint64_t{d.first} << 32 | d.second] = code_point;
        changes_in_nfc[d.second] = true;
      } else {
        changes_in_nfc[code_point] = true;
      }
    }
    for (size_t i = 0; i < kNumCompatibilityRuns; ++i) {
      const CompatibilityRun& run = kCompatibilityRuns[i];
      for (uint32_t k = 0; k < run.count; ++k) compatibility[run.first + k] = {run.to + k};
    }
    for (size_t i = 0; i < kNumCompatibilityValues;) {
      const uint32_t length = kCompatibilitySequences[i] >> 24;
      const uint32_t* values = kCompatibilitySequences + i + 1;
      compatibility[kCompatibilitySequences[i] & 0xffffffu] = {values, values + length};
      i += length + 1;
    }
    for (uint32_t i = 0; i < kVowelCount; ++i) changes_in_nfc[kVowelBase + i] = true;
    for (uint32_t i = 1; i < kTailCount; ++i) changes_in_nfc[kTailBase + i] = true;
  }

  uint8_t class_of(uint32_t c) const { return c < kLimit ? combining_class[c] : 0; }

  void decompose(uint32_t c, std::vector<uint32_t>& out) const {
    if (is_syllable(c)) {
      const uint32_t index = c - kSyllableBase;
      out.push_back(kLeadBase + index / (kVowelCount * kTailCount));
      out.push_back(kVowelBase + index / kTailCount % kVowelCount);
      if (index % kTailCount) out.push_back(kTailBase + index % kTailCount);
      return;
    }
    const auto found = c < kLimit ? decompositions.find(c) : decompositions.end();
    if (found == decompositions.end()) {
      out.push_back(c);
      return;
    }
    decompose(found->second.first, out);
    if (found->second.second) decompose(found->second.second, out);
  }

  /// The primary composite of the two, 0 when there is none.
  uint32_t compose(uint32_t first, uint32_t second) const {
    if (first - kLeadBase < kLeadCount && second - kVowelBase < kVowelCount) {
      return kSyllableBase + ((first - kLeadBase) * kVowelCount + (second - kVowelBase)) * kTailCount;
    }
    if (is_syllable(first) && (first - kSyllableBase) % kTailCount == 0 && second - kTailBase - 1 < kTailCount - 1) {
      return first + (second - kTailBase);
    }
    const auto found = compositions.find(uint64_t{first} << 32 | second);
    return found == compositions.end() ? 0 : found->second;
  }
};

const NormalizationTables& tables() {
  static const NormalizationTables instance;
  return instance;
}

bool composes(NormalizationForm form) { return form == NormalizationForm::nfc || form == NormalizationForm::nfkc; }
bool is_compatible(NormalizationForm form) {
  return form == NormalizationForm::nfkc || form == NormalizationForm::nfkd;
}

struct Code {
  uint32_t value;
  Origin from;
};

/// Normalizes one stretch of valid code points, given decomposed, and appends it.
void finish(std::vector<Code>& codes, NormalizationForm form, TextWriter& out) {
  const NormalizationTables& table = tables();
  // Canonical ordering: stable sort of each run of non-starters.
  for (size_t begin = 0; begin < codes.size();) {
    if (table.class_of(codes[begin].value) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < codes.size() && table.class_of(codes[end].value) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(begin), codes.begin() + static_cast<ptrdiff_t>(end),
                     [&](const Code& a, const Code& b) { return table.class_of(a.value) < table.class_of(b.value); });
    begin = end;
  }
  if (composes(form)) {
    size_t count = 0;
    size_t starter = SIZE_MAX;
    int last_class = -1;  // of the code point kept last after the starter; -1: none
    for (const Code& code : codes) {
      const int code_class = table.class_of(code.value);
      if (starter != SIZE_MAX && last_class < code_class) {
        if (const uint32_t composite = table.compose(codes[starter].value, code.value)) {
          codes[starter].value = composite;
          continue;
        }
      }
      if (code_class == 0) {
        starter = count;
        last_class = -1;
      } else {
        last_class = code_class;
      }
      codes[count++] = code;
    }
    codes.resize(count);
  }
  for (const Code& code : codes) out.append_code_point(code.value, code.from);
  codes.clear();
}

}  // namespace

bool is_surely_normalized(std::string_view text, NormalizationForm form) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = p + text.size();
  const NormalizationTables& table = tables();
  const bool compatible = is_compatible(form);
  while (p < end) {
    if (*p < 0xc2 + !compatible) {  // ASCII (U+0080..U+00BF too, canonically) and invalid bytes stay as they are
      ++p;
      continue;
    }
    const CodePoint c = decode_code_point(p, end);
    if (!composes(form) && is_syllable(c.value)) return false;
    if (c.value < NormalizationTables::kLimit) {
      if (table.changes_in_nfc[c.value]) return false;
      if (!composes(form) && table.decompositions.contains(c.value)) return false;
    }
    if (compatible && table.compatibility.contains(c.value)) return false;
    p += c.length;
  }
  return true;
}

void normalize_unicode(std::string_view text, NormalizationForm form, TextWriter& out) {
  const NormalizationTables& table = tables();
  std::vector<Code> codes;
  std::vector<uint32_t> parts;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text, i);
    const Origin from{i, i + c.length};
    if (c.value == kInvalidCodePoint) {
      finish(codes, form, out);
      out.append(text[i], from);
    } else {
      // An ASCII character never changes what precedes it: the work stays local.
      if (c.value < 0x80) finish(codes, form, out);
      const auto compatible =
          is_compatible(form) && c.value >= 0x80 ? table.compatibility.find(c.value) : table.compatibility.end();
      if (compatible != table.compatibility.end()) {
        for (const uint32_t part : compatible->second) codes.push_back({part, from});
      } else {
        parts.clear();
        table.decompose(c.value, parts);
        for (const uint32_t part : parts) codes.push_back({part, from});
      }
    }
    i += c.length;
  }
  finish(codes, form, out);
}

void decompose_canonically(uint32_t code_point, std::vector<uint32_t>& out) { tables().decompose(code_point, out); }

}  // namespace ondol::tokenization
