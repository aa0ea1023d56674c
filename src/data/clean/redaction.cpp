#include <ondol/data/redaction.h>

#include "data/clean/identifiers.h"

namespace ondol {

namespace {

using namespace clean;

/// What begins at `begin`, the bytes of it; 0 for nothing. Longer and better checked kinds come first.
size_t match_at(std::string_view text, size_t begin, const RedactionOptions& options, RedactionCounts& counts,
                const char*& placeholder) {
  struct Kind {
    bool wanted;
    size_t (*length)(std::string_view text, size_t begin);
    int64_t RedactionCounts::*count;
    const char* placeholder;
  };
  const Kind kinds[] = {
      {options.resident, resident_number_length, &RedactionCounts::resident, "[RRN]"},
      {options.iban, iban_length, &RedactionCounts::iban, "[IBAN]"},
      {options.card, card_number_length, &RedactionCounts::card, "[CARD]"},
      {options.ip, ip_address_length, &RedactionCounts::ip, "[IP]"},
      {options.phone, phone_number_length, &RedactionCounts::phone, "[PHONE]"},
  };
  for (const Kind& kind : kinds) {
    const size_t length = kind.wanted ? kind.length(text, begin) : 0;
    if (length == 0) continue;
    ++(counts.*kind.count);
    placeholder = kind.placeholder;
    return length;
  }
  return 0;
}

}  // namespace

void redact(std::string& text, const RedactionOptions& options, RedactionCounts& counts) {
  std::string out;
  size_t copied = 0;  // bytes of the text that are in `out` already
  const auto replace = [&](size_t begin, size_t end, const char* placeholder) {
    out.append(text, copied, begin - copied);
    out += placeholder;
    copied = end;
  };
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '@' && options.email) {
      const Span mail = email_around(text, i, copied);
      if (mail.begin < mail.end) {
        replace(mail.begin, mail.end, "[EMAIL]");
        ++counts.email;
        i = mail.end;
        continue;
      }
    }
    if (may_begin_identifier(text, i)) {
      const char* placeholder = nullptr;
      const size_t length = match_at(text, i, options, counts, placeholder);
      if (length > 0) {
        replace(i, i + length, placeholder);
        i += length;
        continue;
      }
    }
    ++i;
  }
  if (copied == 0) return;
  out.append(text, copied);
  text = std::move(out);
}

}  // namespace ondol
