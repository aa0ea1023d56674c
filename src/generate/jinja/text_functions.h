// Methods of Python strings. Upper and lower case and white space are those of ASCII.
#pragma once

#include <string>

#include "generate/jinja/value.h"

namespace ondol::jinja {

std::string upper(std::string text);
std::string lower(std::string text);
std::string title(const std::string& text);
std::string capitalize(const std::string& text);
/// Without the characters of `set` (null: white space) at the ends.
std::string strip(const std::string& text, const std::string* set, bool left, bool right);

bool is_text_method(const std::string& name);
Value call_text_method(const std::string& name, const std::string& text, const Arguments& arguments);

}  // namespace ondol::jinja
