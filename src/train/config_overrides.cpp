#include "train/config_overrides.h"

#include <charconv>

namespace ondol {

namespace {

Json& element(Json& array, const std::string& key, const std::string& text) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  if (error != std::errc() || end != key.data() + key.size() || index > array.size()) {
    throw UsageError(concat("cannot set \"", text, "\": \"", key, "\" is no element of an array of ", array.size(),
                            " (command line)"));
  }
  if (index == array.size()) array.push_back(nullptr);
  return array[index];
}

}  // namespace

void apply_override(Json& document, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(concat("cannot set \"", text, "\": expected KEY=VALUE (command line)"),
                     "for example --set train.steps=100");
  }
  Json* place = &document;
  for (size_t begin = 0; begin <= equals;) {
    const size_t end = std::min(text.find('.', begin), equals);
    const std::string key = text.substr(begin, end - begin);
    if (key.empty()) throw UsageError(concat("cannot set \"", text, "\": empty key (command line)"));
    if (place->is_null()) *place = Json::object();
    if (place->is_array()) {
      place = &element(*place, key, text);
    } else if (place->is_object()) {
      place = &(*place)[key];
    } else {
      throw UsageError(concat("cannot set \"", text, "\": nothing lies below \"", text.substr(0, begin - 1),
                              "\", which is a value (command line)"));
    }
    begin = end + 1;
  }
  const std::string value = text.substr(equals + 1);
  // What is JSON is held to the same rules as a file; the rest is a text.
  *place = Json::accept(value) ? parse_json(value, "command line, " + text.substr(0, equals)) : Json(value);
}

}  // namespace ondol
