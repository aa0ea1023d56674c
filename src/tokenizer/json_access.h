// Typed access to members of a JSON object, with errors that name the key and the place.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace ondol::tokenization {

using Json = nlohmann::ordered_json;

/// Required members; UsageError `"key" must be a string (where)` when missing or of another type.
std::string string_at(const Json& object, const char* key, const std::string& where);
int64_t integer_at(const Json& object, const char* key, const std::string& where);
const Json& array_at(const Json& object, const char* key, const std::string& where);

/// Optional members: missing or null gives the default.
bool bool_at(const Json& object, const char* key, bool otherwise, const std::string& where);
std::string string_at(const Json& object, const char* key, const std::string& otherwise, const std::string& where);

}  // namespace ondol::tokenization
