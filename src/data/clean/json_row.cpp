#include "data/clean/json_row.h"

#include "base/json_reader.h"

namespace ondol::clean {

namespace {

/// Behind the string that begins at `begin` with its quotation mark.
size_t string_end(std::string_view row, size_t begin) {
  size_t i = begin + 1;
  while (i < row.size() && row[i] != '"') i += row[i] == '\\' ? 2 : 1;
  ONDOL_CHECK(i < row.size(), "cannot change JSON line: a string does not end");
  return i + 1;
}

bool is_key(std::string_view spelled, std::string_view field) {
  if (spelled.find('\\') == std::string_view::npos) return spelled.substr(1, spelled.size() - 2) == field;
  return Json::parse(spelled).get_ref<const std::string&>() == field;
}

}  // namespace

std::string json_string(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string replace_string_field(std::string_view row, std::string_view field, std::string_view text) {
  int depth = 0;
  bool value = false;  // a value follows, no key
  bool found = false;  // the key was the field
  for (size_t i = 0; i < row.size();) {
    const char c = row[i];
    if (c == '"') {
      const size_t end = string_end(row, i);
      if (depth == 1 && value && found) {
        std::string changed(row.substr(0, i));
        changed += json_string(text);
        changed += row.substr(end);
        return changed;
      }
      if (depth == 1 && !value) found = is_key(row.substr(i, end - i), field);
      i = end;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth == 1 && c == ':') value = true;
    if (depth == 1 && c == ',') value = false;
    ++i;
  }
  throw_error("cannot change JSON line: no string field ", quoted_name(std::string(field)));
}

}  // namespace ondol::clean
