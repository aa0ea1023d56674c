// Base64 (RFC 4648), as tiktoken files and tokenizer.json hold bytes.
#pragma once

#include <string>
#include <string_view>

namespace ondol::tokenization {

/// False when the text is no base64; padding may be left out only where the length stays a multiple of 4.
bool decode_base64(std::string_view text, std::string& bytes);

std::string encode_base64(std::string_view bytes);

}  // namespace ondol::tokenization
