// Errors whose kind is known at run time only: readers that serve configurations (usage) and model files (failure)
// alike.
#pragma once

#include <ondol/base/error.h>

namespace ondol {

/// Throws a UsageError for ErrorKind::usage, so that it can be caught as one, else an Error.
[[noreturn]] inline void throw_as(ErrorKind kind, const std::string& message, const std::string& hint = "") {
  if (kind == ErrorKind::usage) throw UsageError(message, hint);
  throw Error(message, hint, kind);
}

}  // namespace ondol
