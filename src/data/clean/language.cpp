#include <ondol/data/language.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "data/clean/language_lists.h"
#include "data/clean/words.h"
#include "tokenizer/hashing.h"
#include "tokenizer/unicode.h"

namespace ondol {

namespace {

using namespace clean;

constexpr size_t kMaxBytes = size_t{256} << 10;
constexpr size_t kNumScripts = static_cast<size_t>(Script::count);

struct Range {
  uint32_t first, last;
  Script script;
};

constexpr Range kRanges[] = {
    {'A', 'Z', Script::latin},         {'a', 'z', Script::latin},          {0xaa, 0xaa, Script::latin},
    {0xba, 0xba, Script::latin},       {0xc0, 0x24f, Script::latin},       {0x370, 0x3ff, Script::greek},
    {0x400, 0x52f, Script::cyrillic},  {0x531, 0x58a, Script::armenian},   {0x591, 0x5f4, Script::hebrew},
    {0x600, 0x6ff, Script::arabic},    {0x750, 0x77f, Script::arabic},     {0x900, 0x97f, Script::devanagari},
    {0x980, 0x9ff, Script::bengali},   {0xa00, 0xa7f, Script::gurmukhi},   {0xa80, 0xaff, Script::gujarati},
    {0xb80, 0xbff, Script::tamil},     {0xc00, 0xc7f, Script::telugu},     {0xc80, 0xcff, Script::kannada},
    {0xd00, 0xd7f, Script::malayalam}, {0xd80, 0xdff, Script::sinhala},    {0xe00, 0xe7f, Script::thai},
    {0xe80, 0xeff, Script::lao},       {0x1000, 0x109f, Script::myanmar},  {0x10a0, 0x10ff, Script::georgian},
    {0x1100, 0x11ff, Script::hangul},  {0x1200, 0x139f, Script::ethiopic}, {0x1780, 0x17ff, Script::khmer},
    {0x1e00, 0x1eff, Script::latin},   {0x1f00, 0x1fff, Script::greek},    {0x3041, 0x30ff, Script::kana},
    {0x3131, 0x318e, Script::hangul},  {0x31f0, 0x31ff, Script::kana},     {0x3400, 0x4dbf, Script::han},
    {0x4e00, 0x9fff, Script::han},     {0xac00, 0xd7a3, Script::hangul},   {0xf900, 0xfaff, Script::han},
    {0xfb1d, 0xfb4f, Script::hebrew},  {0xfb50, 0xfdff, Script::arabic},   {0xfe70, 0xfefc, Script::arabic},
    {0xff66, 0xff9f, Script::kana},    {0x20000, 0x3ffff, Script::han},
};

Script script_of(uint32_t c) {
  if (c < 0x80) return (c | 32) - 'a' < 26 ? Script::latin : Script::none;
  const Range* after = std::upper_bound(std::begin(kRanges), std::end(kRanges), c,
                                        [](uint32_t v, const Range& r) { return v < r.first; });
  return after != std::begin(kRanges) && c <= after[-1].last ? after[-1].script : Script::none;
}

/// Which languages have a word, or a letter, as bits.
struct Lists {
  std::unordered_map<uint64_t, uint32_t> words;
  std::unordered_map<uint32_t, uint32_t> letters;

  Lists() {
    for (size_t l = 0; l < kNumLanguageLists; ++l) {
      const uint32_t bit = uint32_t{1} << l;
      WordReader reader(kLanguageLists[l].words);
      for (Word word; reader.next(word);) words[tokenization::hash_bytes(word.text)] |= bit;
      const std::string_view text = kLanguageLists[l].letters;
      for (size_t i = 0; i < text.size();) {
        const tokenization::CodePoint c = tokenization::decode_code_point(text, i);
        letters[c.value] |= bit;
        i += c.length;
      }
    }
  }
};

const Lists& lists() {
  static const Lists made;
  return made;
}

constexpr size_t kMaxLanguages = 32;

/// What a text shows of scripts, common words and letters.
struct Evidence {
  std::array<double, kNumScripts> letters{};  // weighted
  std::array<int64_t, kNumScripts> words{};
  std::array<int64_t, kMaxLanguages> word_hits{};
  std::array<int64_t, kMaxLanguages> letter_hits{};
  std::array<int64_t, kNumScripts> marked_letters{};  // that some alphabet of the script has beyond its basic ones
};

void add_bits(uint32_t mask, std::array<int64_t, kMaxLanguages>& counts) {
  for (; mask != 0; mask &= mask - 1) ++counts[static_cast<size_t>(__builtin_ctz(mask))];
}

double weight_of(Script script) {
  return script == Script::hangul || script == Script::kana || script == Script::han ? 2.0 : 1.0;
}

Evidence gather(std::string_view text) {
  const Lists& known = lists();
  Evidence evidence;
  WordReader reader(text);
  for (Word word; reader.next(word);) {
    Script first = Script::none;
    for (size_t i = 0; i < word.text.size();) {
      const tokenization::CodePoint c = tokenization::decode_code_point(word.text, i);
      i += c.length;
      const Script script = script_of(c.value);
      if (script == Script::none) continue;
      if (first == Script::none) first = script;
      const auto s = static_cast<size_t>(script);
      evidence.letters[s] += weight_of(script);
      if (c.value < 0x80) continue;
      if (const auto entry = known.letters.find(c.value); entry != known.letters.end()) {
        ++evidence.marked_letters[s];
        add_bits(entry->second, evidence.letter_hits);
      }
    }
    if (first == Script::none) continue;
    ++evidence.words[static_cast<size_t>(first)];
    if (const auto entry = known.words.find(tokenization::hash_bytes(word.text)); entry != known.words.end()) {
      add_bits(entry->second, evidence.word_hits);
    }
  }
  return evidence;
}

// Shares of running text that are words of a language's list: in the language, and in any other text. Of a letter with
// a mark, how likely it is in the alphabet of its own language, and by chance.
constexpr double kCommonShare = 0.25, kChanceShare = 0.05;
constexpr double kOwnLetter = 0.97, kChanceLetter = 0.4;

/// The likeliest language of the script and its posterior; "und" when none explains the text better than chance.
LanguageGuess of_shared_script(const Evidence& evidence, Script script) {
  const auto words = static_cast<double>(evidence.words[static_cast<size_t>(script)]);
  const auto marked = static_cast<double>(evidence.marked_letters[static_cast<size_t>(script)]);
  const double hit = std::log(kCommonShare / kChanceShare), miss = std::log((1 - kCommonShare) / (1 - kChanceShare));
  const double own = std::log(kOwnLetter / kChanceLetter), alien = std::log((1 - kOwnLetter) / (1 - kChanceLetter));
  double best = 0, sum = 1;  // of "none of them", whose logarithm is 0
  LanguageGuess guess;
  std::array<double, kMaxLanguages> logs{};
  for (size_t l = 0; l < kNumLanguageLists; ++l) {
    if (kLanguageLists[l].script != script) continue;
    const auto hits = std::min(static_cast<double>(evidence.word_hits[l]), words);
    const auto letters = static_cast<double>(evidence.letter_hits[l]);
    logs[l] = hits * hit + (words - hits) * miss + letters * own + (marked - letters) * alien;
    if (logs[l] <= best) continue;
    best = logs[l];
    guess.code = kLanguageLists[l].code;
  }
  sum = std::exp(-best);
  for (size_t l = 0; l < kNumLanguageLists; ++l) {
    if (kLanguageLists[l].script == script) sum += std::exp(logs[l] - best);
  }
  guess.score = 1 / sum;
  return guess;
}

struct ScriptLanguage {
  Script script;
  const char* code;
};
constexpr ScriptLanguage kScriptLanguages[] = {
    {Script::hangul, "ko"},   {Script::kana, "ja"},    {Script::han, "zh"},       {Script::greek, "el"},
    {Script::hebrew, "he"},   {Script::thai, "th"},    {Script::georgian, "ka"},  {Script::armenian, "hy"},
    {Script::bengali, "bn"},  {Script::tamil, "ta"},   {Script::telugu, "te"},    {Script::gujarati, "gu"},
    {Script::gurmukhi, "pa"}, {Script::kannada, "kn"}, {Script::malayalam, "ml"}, {Script::sinhala, "si"},
    {Script::khmer, "km"},    {Script::lao, "lo"},     {Script::myanmar, "my"},   {Script::ethiopic, "am"},
};

}  // namespace

LanguageGuess identify_language(std::string_view text) {
  if (text.size() > kMaxBytes) {
    text = text.substr(0, kMaxBytes);
    text.remove_suffix(tokenization::incomplete_utf8_suffix(text));
  }
  Evidence evidence = gather(text);
  double all = 0;
  for (const double letters : evidence.letters) all += letters;
  if (all == 0) return {};
  // Japanese is written in two scripts, and Han alone is Chinese.
  double& kana = evidence.letters[static_cast<size_t>(Script::kana)];
  double& han = evidence.letters[static_cast<size_t>(Script::han)];
  double& east_asian = kana >= 0.1 * (kana + han) ? kana : han;
  east_asian = kana + han;
  (&east_asian == &kana ? han : kana) = 0;
  const auto most = std::max_element(evidence.letters.begin(), evidence.letters.end());
  const auto script = static_cast<Script>(most - evidence.letters.begin());
  const double share = *most / all;
  for (const ScriptLanguage& language : kScriptLanguages) {
    if (language.script == script) return {language.code, share};
  }
  LanguageGuess guess = of_shared_script(evidence, script);
  guess.score *= share;
  return guess;
}

std::vector<std::string> known_languages() {
  std::vector<std::string> codes;
  for (size_t l = 0; l < kNumLanguageLists; ++l) codes.emplace_back(kLanguageLists[l].code);
  for (const ScriptLanguage& language : kScriptLanguages) codes.emplace_back(language.code);
  return codes;
}

}  // namespace ondol
