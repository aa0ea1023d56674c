#include "tokenizer/byte_alphabet.h"

#include <array>

#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

constexpr int kHighestCharacter = 0x143;  // 68 bytes are not printable: U+0100 … U+0143

struct Alphabet {
  std::array<uint16_t, 256> to_character{};
  std::array<int16_t, kHighestCharacter + 1> to_byte{};

  Alphabet() {
    to_byte.fill(-1);
    uint16_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      const uint16_t character = printable ? static_cast<uint16_t>(byte) : next++;
      to_character[static_cast<size_t>(byte)] = character;
      to_byte[character] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

uint32_t byte_to_alphabet(uint8_t byte) { return alphabet().to_character[byte]; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_utf8(byte_to_alphabet(static_cast<uint8_t>(byte)), text);
  return text;
}

bool from_byte_alphabet(std::string_view text, std::string& bytes) {
  const Alphabet& a = alphabet();
  bytes.clear();
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text, i);
    if (c.value > kHighestCharacter || a.to_byte[c.value] < 0) return false;
    bytes += static_cast<char>(a.to_byte[c.value]);
    i += c.length;
  }
  return true;
}

}  // namespace ondol::tokenization
