// JSON on standard output.
#pragma once

#include <nlohmann/json.hpp>

#include "output.h"

using OrderedJson = nlohmann::ordered_json;

/// One document on one line; bytes that are not UTF-8 become U+FFFD.
inline std::string json_text(const OrderedJson& document) {
  return document.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}
inline void write_json(const OrderedJson& document) { write_output(json_text(document) + "\n"); }
