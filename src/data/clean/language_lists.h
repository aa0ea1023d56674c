// Common words and letters of languages that share a script.
#pragma once

#include <cstddef>

namespace ondol::clean {

enum class Script : unsigned char {
  none,
  latin,
  cyrillic,
  arabic,
  devanagari,
  hangul,
  kana,
  han,
  greek,
  hebrew,
  thai,
  georgian,
  armenian,
  bengali,
  tamil,
  telugu,
  gujarati,
  gurmukhi,
  kannada,
  malayalam,
  sinhala,
  khmer,
  lao,
  myanmar,
  ethiopic,
  count
};

struct LanguageList {
  const char* code;
  Script script;
  const char* words;    // separated by spaces, lower case
  const char* letters;  // beyond the basic letters of the script, lower case
};

extern const LanguageList kLanguageLists[];
extern const size_t kNumLanguageLists;

}  // namespace ondol::clean
