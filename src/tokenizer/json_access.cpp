#include "tokenizer/json_access.h"

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

namespace ondol::tokenization {

namespace {

const Json* find(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object()) throw UsageError(concat("an object is expected (", where, ")"));
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

[[noreturn]] void wrong_type(const char* key, const char* type, const std::string& where) {
  throw UsageError(concat('"', key, "\" must be ", type, " (", where, ")"));
}

}  // namespace

std::string string_at(const Json& object, const char* key, const std::string& where) {
  const Json* value = find(object, key, where);
  if (value == nullptr || !value->is_string()) wrong_type(key, "a string", where);
  return value->get<std::string>();
}

int64_t integer_at(const Json& object, const char* key, const std::string& where) {
  const Json* value = find(object, key, where);
  if (value == nullptr || !value->is_number_integer()) wrong_type(key, "an integer", where);
  if (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) wrong_type(key, "a 64-bit integer", where);
  return value->get<int64_t>();
}

const Json& array_at(const Json& object, const char* key, const std::string& where) {
  const Json* value = find(object, key, where);
  if (value == nullptr || !value->is_array()) wrong_type(key, "an array", where);
  return *value;
}

bool bool_at(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const Json* value = find(object, key, where);
  if (value == nullptr || value->is_null()) return otherwise;
  if (!value->is_boolean()) wrong_type(key, "true or false", where);
  return value->get<bool>();
}

std::string string_at(const Json& object, const char* key, const std::string& otherwise, const std::string& where) {
  const Json* value = find(object, key, where);
  if (value == nullptr || value->is_null()) return otherwise;
  if (!value->is_string()) wrong_type(key, "a string", where);
  return value->get<std::string>();
}

}  // namespace ondol::tokenization
