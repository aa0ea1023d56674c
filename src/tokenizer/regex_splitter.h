// Regular expressions of `Split` pre-tokenizers other than the known patterns, through PCRE2 (Unicode, JIT).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace ondol::tokenization {

/// A compiled regular expression; safe to use from several threads.
class Regex {
 public:
  /// Throws UsageError, naming `where`, when PCRE2 does not take the expression.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Calls match(begin, end) for every non-empty match in order. Throws Error at PCRE2's match limit.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& match) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ondol::tokenization
