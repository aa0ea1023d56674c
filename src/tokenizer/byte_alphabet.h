// The printable alphabet of byte-level BPE (GPT-2): every byte is written as one character. Printable Latin-1 bytes
// stand for themselves, the remaining ones become U+0100, U+0101, … in byte order ("Ġ" is a space, "Ċ" a newline).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ondol::tokenization {

/// The character (code point) of a byte.
uint32_t byte_to_alphabet(uint8_t byte);

/// Bytes to their printable form.
std::string to_byte_alphabet(std::string_view bytes);

/// The inverse; false when the text holds a character outside the alphabet.
bool from_byte_alphabet(std::string_view text, std::string& bytes);

}  // namespace ondol::tokenization
