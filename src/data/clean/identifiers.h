// Numbers and addresses that name a person, by their form and their check digits.
#pragma once

#include <cstddef>
#include <string_view>

namespace ondol::clean {

struct Span {
  size_t begin = 0, end = 0;  // empty: nothing
};

/// The mail address around the "@" at `at`; nothing before `from` belongs to it.
Span email_around(std::string_view text, size_t at, size_t from);

/// Whether a character can begin one of the identifiers below: a digit, "+", "(", ":" or a letter of an IBAN or of an
/// IPv6 address, and what stands before it is no part of the same word.
bool may_begin_identifier(std::string_view text, size_t begin);

// Each gives the bytes of the identifier that begins at `begin`, 0 when none does or when it goes on behind.
size_t resident_number_length(std::string_view text, size_t begin);
size_t iban_length(std::string_view text, size_t begin);
size_t card_number_length(std::string_view text, size_t begin);
size_t ip_address_length(std::string_view text, size_t begin);
size_t phone_number_length(std::string_view text, size_t begin);

}  // namespace ondol::clean
