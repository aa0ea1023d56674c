// Errors: one exception type for the whole library.
//
//   ONDOL_CHECK(cols > 0, "[rms_norm] hidden size must be positive, got ", cols);
//   throw UsageError(concat("unknown key \"", key, "\" (", file, ")"), "did you mean \"steps\"?");
//
// The program prints `error: <what()>` and then, when there is one, `hint: <hint()>`; the kind is its exit code. Both are
// one line of bounded length whatever they quote: control characters (names come from files) are written as escapes, and
// of a text beyond 2000 bytes the middle is left out.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ondol {

/// The values are the exit codes of the program.
enum class ErrorKind { failure = 1, usage = 2 };

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, const std::string& hint = "", ErrorKind kind = ErrorKind::failure);
  const std::string& hint() const { return hint_; }
  ErrorKind kind() const { return kind_; }

 private:
  std::string hint_;
  ErrorKind kind_;
};

/// Wrong command line, wrong configuration, impossible combination: exit code 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message, const std::string& hint = "")
      : Error(message, hint, ErrorKind::usage) {}
};

/// All arguments streamed into one string.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <class... Args>
[[noreturn]] void throw_error(const Args&... args) {
  throw Error(concat(args...));
}

}  // namespace ondol

/// Throws ondol::Error with the streamed message when the condition does not hold.
#define ONDOL_CHECK(condition, ...)                      \
  do {                                                   \
    if (!(condition)) ::ondol::throw_error(__VA_ARGS__); \
  } while (false)
