// Personal data in texts, replaced by placeholders.
//
//   std::string text = "mail kim@naver.com or call 010-1234-5678";
//   RedactionCounts counts;
//   redact(text, {}, counts);                  // "mail [EMAIL] or call [PHONE]", counts.email == 1, counts.phone == 1
//
// What counts, and what is checked before it does:
//   email      local@domain with a top-level domain of letters                                           [EMAIL]
//   ip         IPv4 and IPv6 addresses that are routed in public, no private, local or example ranges    [IP]
//   phone      +country code and 7 to 14 digits; Korean numbers (010-…, 02-…, 031-…, 070-…; mobile ones   [PHONE]
//              without separators too); North American ones with separators
//   card       13 to 19 digits of a known issuer whose Luhn sum holds                                    [CARD]
//   resident   Korean resident and foreigner registration numbers: date of birth, and the check digit    [RRN]
//              (numbers given since October 2020 have none, so for births since then the date decides)
//   iban       a known country's length and the remainder 1 modulo 97 (ISO 13616)                        [IBAN]
// A number that is part of a longer one or of a word does not count. Names and postal addresses are not found. Any
// thread may call it.
#pragma once

#include <cstdint>
#include <string>

namespace ondol {

struct RedactionOptions {
  bool email = true, ip = true, phone = true, card = true, resident = true, iban = true;
};

struct RedactionCounts {
  int64_t email = 0, ip = 0, phone = 0, card = 0, resident = 0, iban = 0;
  int64_t total() const { return email + ip + phone + card + resident + iban; }
};

/// Rewrites the text in place and adds to the counts.
void redact(std::string& text, const RedactionOptions& options, RedactionCounts& counts);

}  // namespace ondol
