// What templates may call: filters, tests, methods of values, global functions.
#pragma once

#include "generate/jinja/value.h"

namespace ondol::jinja {

/// arguments.positional holds what is written in the brackets. Throws Failure for an unknown name.
Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments);
bool apply_test(const std::string& name, const Value& input, const Arguments& arguments);

/// The method of a string or mapping, bound to it, or undefined.
Value find_method(const Value& object, const std::string& name);

/// object[key] for integers and strings, undefined when there is nothing.
Value subscript(const Value& object, const Value& key);

/// Elements begin:end:step of a list or string; absent bounds are undefined or none.
Value slice(const Value& object, const Value& begin, const Value& end, const Value& step);

/// raise_exception, namespace, range, dict, strftime_now.
Dict global_functions();

/// Elements of a range.
inline constexpr int64_t kMaxRange = 100'000;

}  // namespace ondol::jinja
