// Which language a text is in, from its script, its letters and its most common words.
//
//   const LanguageGuess guess = identify_language("이 행사는 도가 주관한다");    // {"ko", 1.0}
//
// The script is decided first: a character of Han, kana or Hangul counts as much as two letters. Han with at least one
// kana in ten is Japanese, else Chinese. Where several languages share a script, each common word of a language is
// evidence for it, each other word a little evidence against, and so are letters outside its alphabet; "none of them"
// competes too. The score is the share of the script times the posterior probability of the language.
//
// Told apart: Latin en de fr es it pt nl sv da no fi pl cs tr vi id ro hu; Cyrillic ru uk bg sr; Arabic ar fa ur;
// Devanagari hi mr ne; and, one language for each script: ko ja zh el he th ka hy bn ta te gu pa kn ml si km lo my am.
// Anything else is "und". A few words are not enough for languages with a shared script, Danish and Norwegian are often
// confused, and so is whatever language has no list here but shares words with one that has.
//
// At most the first 256 KiB are looked at. Any thread may call it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ondol {

struct LanguageGuess {
  std::string code = "und";  // ISO 639-1
  double score = 0;          // 0 … 1
};

LanguageGuess identify_language(std::string_view text);

/// All codes that identify_language can answer, "und" left out.
std::vector<std::string> known_languages();

}  // namespace ondol
