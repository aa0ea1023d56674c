#include "tokenizer/model.h"

#include <nlohmann/json.hpp>

namespace ondol::tokenization {

std::string quoted_json(std::string_view text) {
  // A vocabulary from a binary file may hold bytes that are no UTF-8.
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string vocabulary_json(const StringTable& vocabulary, std::span<const AddedToken> further_tokens) {
  std::string out = "{";
  const char* separator = "\n";
  const auto entry = [&](std::string_view token, int32_t id) {
    out += separator;
    out += quoted_json(token);
    out += ':';
    out += std::to_string(id);
    separator = ",\n";
  };
  for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
    if (vocabulary.contains(id)) entry(vocabulary.text(id), id);
  }
  for (const AddedToken& token : further_tokens) entry(token.content, token.id);
  return out + "}";
}

}  // namespace ondol::tokenization
