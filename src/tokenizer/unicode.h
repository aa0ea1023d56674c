// Unicode 15.0 properties that tokenizers ask for, from a table of general categories.
#pragma once

#include <cstdint>

#include "tokenizer/utf8.h"

namespace ondol::tokenization {

/// General categories in the order of the table's values (the order ICU uses).
enum class Category : uint8_t {
  Cn,
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Me,
  Mc,
  Nd,
  Nl,
  No,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Co,
  Cs,
  Pd,
  Ps,
  Pe,
  Pc,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Pi,
  Pf
};

/// Invalid code points count as unassigned (Cn).
Category unicode_category(uint32_t code_point);

inline bool is_letter(Category c) { return c >= Category::Lu && c <= Category::Lo; }
inline bool is_mark(Category c) { return c >= Category::Mn && c <= Category::Mc; }
inline bool is_number(Category c) { return c >= Category::Nd && c <= Category::No; }
inline bool is_punctuation(Category c) {
  return (c >= Category::Pd && c <= Category::Po) || c == Category::Pi || c == Category::Pf;
}

/// False for marks, punctuation and format characters that Unicode assigned after the major version (8 or 9): Hugging
/// Face tokenizers know those of their own tables only.
bool assigned_by_unicode(uint32_t code_point, int version);

/// The lower case of one code point; U+0130, which has two, gives "i".
uint32_t to_lowercase(uint32_t code_point);

/// The property White_Space.
bool is_white_space(uint32_t code_point);

/// \w of Unicode regular expressions: letters, marks, decimal digits, letter numbers, connector punctuation, joiners.
bool is_word_character(uint32_t code_point);

/// What the pre-tokenizer patterns distinguish.
enum class CharClass : uint8_t { other, letter, number, space, newline };  // newline: \r and \n

/// Two-stage table: data[page[code point >> 8]][code point & 255].
struct CharClassTable {
  uint16_t page[0x1100];
  CharClass (*data)[256];

  CharClass operator[](uint32_t code_point) const {
    return code_point > 0x10ffff ? CharClass::other : data[page[code_point >> 8]][code_point & 255];
  }
};

const CharClassTable& char_classes();

}  // namespace ondol::tokenization
