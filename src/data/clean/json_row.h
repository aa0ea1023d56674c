// One line of JSON lines, changed in a single field.
#pragma once

#include <string>
#include <string_view>

namespace ondol::clean {

/// `row` is an object that holds the string field `field` once at its top level (it was read so before); the result has
/// `text` there, everything else is as it was, byte for byte.
std::string replace_string_field(std::string_view row, std::string_view field, std::string_view text);

/// A JSON string, quoted and escaped; bytes that are not UTF-8 become U+FFFD.
std::string json_string(std::string_view text);

}  // namespace ondol::clean
