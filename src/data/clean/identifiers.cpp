#include "data/clean/identifiers.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include <arpa/inet.h>

namespace ondol::clean {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alphanumeric(char c) { return is_digit(c) || is_letter(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

/// The character at `position`, or a line break beyond the ends.
char at(std::string_view text, size_t position) { return position < text.size() ? text[position] : '\n'; }

/// No letter or digit goes on at `end`, nor a number behind a separator that joins numbers ("1.5", "3-4").
bool ends_number(std::string_view text, size_t end) {
  const char next = at(text, end);
  if (is_alphanumeric(next) || next == '_' || next == '@') return false;
  return !((next == '.' || next == '-' || next == ',') && is_digit(at(text, end + 1)));
}

/// Digits in groups that single separators out of `separators` join, as far as they go.
struct DigitGroups {
  std::string digits;
  std::array<size_t, 8> groups{};  // lengths
  size_t num_groups = 0;
  size_t length = 0;  // bytes

  /// The first `count` groups.
  DigitGroups first(size_t count) const {
    DigitGroups part;
    part.num_groups = count;
    size_t num_digits = 0;
    for (size_t g = 0; g < count; ++g) num_digits += part.groups[g] = groups[g];
    part.digits = digits.substr(0, num_digits);
    part.length = num_digits + (count == 0 ? 0 : count - 1);
    return part;
  }
};

DigitGroups read_groups(std::string_view text, size_t begin, std::string_view separators) {
  constexpr size_t kMaxDigits = 40;
  DigitGroups found;
  size_t i = begin;
  while (found.num_groups < found.groups.size() && found.digits.size() < kMaxDigits) {
    const size_t group = i;
    while (is_digit(at(text, i))) found.digits += text[i++];
    if (i == group) break;
    found.groups[found.num_groups++] = i - group;
    found.length = i - begin;
    if (separators.find(at(text, i)) == std::string_view::npos || !is_digit(at(text, i + 1))) break;
    ++i;
  }
  return found;
}

int digit(const std::string& digits, size_t i) { return digits[i] - '0'; }

int number(const std::string& digits, size_t begin, size_t count) {
  int value = 0;
  for (size_t i = begin; i < begin + count; ++i) value = value * 10 + digit(digits, i);
  return value;
}

bool is_date(int year, int month, int day) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12 || day < 1) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return day <= kDays[month - 1] + (month == 2 && leap);
}

bool luhn_holds(const std::string& digits) {
  int sum = 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    int value = digit(digits, digits.size() - 1 - i);
    if (i % 2 == 1) value = value > 4 ? 2 * value - 9 : 2 * value;
    sum += value;
  }
  return sum % 10 == 0;
}

/// Prefix and length of a card brand (ISO/IEC 7812 ranges of the large issuers).
bool is_card_of_known_issuer(const std::string& digits) {
  struct Issuer {
    int first, last;  // of the first four digits
    size_t min_length, max_length;
  };
  static constexpr Issuer kIssuers[] = {
      {4000, 4999, 13, 19}, {5100, 5599, 16, 16}, {2221, 2720, 16, 16}, {3400, 3499, 15, 15},
      {3700, 3799, 15, 15}, {6011, 6011, 16, 19}, {6440, 6599, 16, 19}, {6200, 6299, 16, 19},
      {3528, 3589, 16, 19}, {3000, 3059, 14, 16}, {3600, 3699, 14, 19}, {3800, 3999, 14, 16},
      {5018, 5018, 13, 19}, {5020, 5020, 13, 19}, {5038, 5038, 13, 19}, {6304, 6304, 13, 19},
  };
  const int prefix = number(digits, 0, 4);
  return std::any_of(std::begin(kIssuers), std::end(kIssuers), [&](const Issuer& issuer) {
    return prefix >= issuer.first && prefix <= issuer.last && digits.size() >= issuer.min_length &&
           digits.size() <= issuer.max_length;
  });
}

struct IbanCountry {
  char code[3];
  size_t length;
};
constexpr IbanCountry kIbanCountries[] = {
    {"AD", 24}, {"AE", 23}, {"AL", 28}, {"AT", 20}, {"AZ", 28}, {"BA", 20}, {"BE", 16}, {"BG", 22}, {"BH", 22},
    {"BR", 29}, {"BY", 28}, {"CH", 21}, {"CR", 22}, {"CY", 28}, {"CZ", 24}, {"DE", 22}, {"DK", 18}, {"DO", 28},
    {"EE", 20}, {"EG", 29}, {"ES", 24}, {"FI", 18}, {"FO", 18}, {"FR", 27}, {"GB", 22}, {"GE", 22}, {"GI", 23},
    {"GL", 18}, {"GR", 27}, {"GT", 28}, {"HR", 21}, {"HU", 28}, {"IE", 22}, {"IL", 23}, {"IQ", 23}, {"IS", 26},
    {"IT", 27}, {"JO", 30}, {"KW", 30}, {"KZ", 20}, {"LB", 28}, {"LC", 32}, {"LI", 21}, {"LT", 20}, {"LU", 20},
    {"LV", 21}, {"LY", 25}, {"MC", 27}, {"MD", 24}, {"ME", 22}, {"MK", 19}, {"MR", 27}, {"MT", 31}, {"MU", 30},
    {"NL", 18}, {"NO", 15}, {"PK", 24}, {"PL", 28}, {"PS", 29}, {"PT", 25}, {"QA", 29}, {"RO", 24}, {"RS", 22},
    {"SA", 24}, {"SC", 31}, {"SE", 24}, {"SI", 19}, {"SK", 24}, {"SM", 27}, {"ST", 25}, {"SV", 28}, {"TL", 23},
    {"TN", 24}, {"TR", 26}, {"UA", 29}, {"VA", 22}, {"VG", 24}, {"XK", 20},
};

bool is_local_part(char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-'; }

bool is_public(const in_addr& address) {
  const uint32_t a = ntohl(address.s_addr);
  struct Range {
    uint32_t first;
    int bits;
  };
  // This network, private, shared, loopback, link local, protocol assignments, examples, benchmarks, multicast, future.
  static constexpr Range kReserved[] = {
      {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
      {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0a80000, 16}, {0xc6120000, 15},
      {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
  };
  return std::none_of(std::begin(kReserved), std::end(kReserved),
                      [&](const Range& range) { return (a ^ range.first) >> (32 - range.bits) == 0; });
}

/// Global unicast (2000::/3) but for the example range 2001:db8::/32.
bool is_public(const in6_addr& address) {
  const uint8_t* a = address.s6_addr;
  return a[0] >> 5 == 1 && !(a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8);
}

size_t ipv4_length(std::string_view text, size_t begin) {
  const DigitGroups found = read_groups(text, begin, ".");
  if (found.num_groups != 4 || !ends_number(text, begin + found.length)) return 0;
  in_addr address{};
  const std::string spelled(text.substr(begin, found.length));
  return ::inet_pton(AF_INET, spelled.c_str(), &address) == 1 && is_public(address) ? found.length : 0;
}

size_t ipv6_length(std::string_view text, size_t begin) {
  size_t end = begin, colons = 0;
  while (is_hex(at(text, end)) || at(text, end) == ':') colons += text[end++] == ':';
  while (end > begin && text[end - 1] == ':' && !(end > begin + 1 && text[end - 2] == ':')) {
    --end;  // "see 2606:4700::1111:" ends before its colon
    --colons;
  }
  if (colons < 2 || end - begin > 39 || is_letter(at(text, end)) || at(text, end) == '_') return 0;
  in6_addr address{};
  const std::string spelled(text.substr(begin, end - begin));
  return ::inet_pton(AF_INET6, spelled.c_str(), &address) == 1 && is_public(address) ? end - begin : 0;
}

/// Korean: mobile 01x, Seoul 02, provinces 03x–06x, internet 070, free 080, personal 050x.
bool is_korean_phone(const DigitGroups& n) {
  const auto& g = n.groups;
  if (n.num_groups == 1) return n.digits.size() == 11 && n.digits.starts_with("010");
  if (n.num_groups != 3 || n.digits[0] != '0' || (g[1] != 3 && g[1] != 4) || g[2] != 4 || g[0] < 2) return false;
  const char second = n.digits[1];
  if (g[0] == 2) return second == '2';
  const char third = n.digits[2];
  if (g[0] == 4) return n.digits.starts_with("050");
  if (g[0] != 3) return false;
  if (second == '1') return third != '2' && third != '3' && third != '4' && third != '5';
  return (second >= '3' && second <= '6') || ((second == '7' || second == '8') && third == '0');
}

/// North American: area code and exchange begin with 2 to 9.
bool is_american_phone(const DigitGroups& n) {
  const size_t country = n.num_groups == 4 && n.digits[0] == '1' && n.groups[0] == 1 ? 1 : 0;
  if (n.num_groups != 3 + country || n.digits.size() != 10 + country) return false;
  const size_t* g = n.groups.data() + country;
  return g[0] == 3 && g[1] == 3 && g[2] == 4 && n.digits[country] >= '2' && n.digits[country + 3] >= '2';
}

}  // namespace

Span email_around(std::string_view text, size_t at_sign, size_t from) {
  size_t begin = at_sign;
  while (begin > from && at_sign - begin < 64 && is_local_part(text[begin - 1])) --begin;
  while (begin < at_sign && !is_alphanumeric(text[begin]) && text[begin] != '_') ++begin;
  if (begin == at_sign || text[at_sign - 1] == '.') return {};
  size_t end = at_sign + 1, label = end, last_label = 0;
  for (;
       end < text.size() && end - at_sign < 255 && (is_alphanumeric(text[end]) || text[end] == '-' || text[end] == '.');
       ++end) {
    if (text[end] != '.') continue;
    if (end == label || !is_alphanumeric(at(text, end + 1))) break;  // a full stop
    last_label = end + 1;
    label = end + 1;
  }
  while (end > label && text[end - 1] == '-') --end;
  if (last_label == 0 || end - last_label < 2) return {};
  for (size_t i = last_label; i < end; ++i) {
    if (!is_letter(text[i])) return {};
  }
  return {begin, end};
}

bool may_begin_identifier(std::string_view text, size_t begin) {
  const char c = text[begin];
  if (!is_alphanumeric(c) && c != '+' && c != '(' && c != ':') return false;
  if (begin == 0) return true;
  const char before = text[begin - 1];
  if (is_alphanumeric(before) || before == '_' || before == ':' || before == '#') return false;
  if (c == ':' || c == '(' || is_letter(c)) return true;
  if (before == '+') return false;
  return !((before == '.' || before == '-' || before == ',') && begin > 1 && is_digit(text[begin - 2]));
}

size_t resident_number_length(std::string_view text, size_t begin) {
  const DigitGroups found = read_groups(text, begin, "-");
  const bool hyphen = found.num_groups == 2 && found.groups[0] == 6 && found.groups[1] == 7;
  if (found.digits.size() != 13 || !(hyphen || found.num_groups == 1) || !ends_number(text, begin + found.length)) {
    return 0;
  }
  const std::string& d = found.digits;
  const int kind = digit(d, 6);  // sex, century, and whether foreign
  const int century = kind == 9 || kind == 0 ? 1800 : kind == 3 || kind == 4 || kind == 7 || kind == 8 ? 2000 : 1900;
  const int year = century + number(d, 0, 2), month = number(d, 2, 2), day = number(d, 4, 2);
  if (!is_date(year, month, day)) return 0;
  int sum = 0;
  for (size_t i = 0; i < 12; ++i) sum += digit(d, i) * static_cast<int>(i % 8 + 2);
  const bool foreign = kind >= 5 && kind <= 8;
  const bool holds = ((foreign ? 13 : 11) - sum % 11) % 10 == digit(d, 12);
  const bool without_check_digit = hyphen && (year > 2020 || (year == 2020 && month >= 10));
  return holds || without_check_digit ? found.length : 0;
}

size_t iban_length(std::string_view text, size_t begin) {
  const auto upper = [&](size_t i) { return at(text, i) >= 'A' && at(text, i) <= 'Z'; };
  if (!upper(begin) || !upper(begin + 1) || !is_digit(at(text, begin + 2)) || !is_digit(at(text, begin + 3))) return 0;
  const auto* country = std::find_if(std::begin(kIbanCountries), std::end(kIbanCountries),
                                     [&](const IbanCountry& c) { return text.substr(begin, 2) == c.code; });
  if (country == std::end(kIbanCountries)) return 0;
  std::string account;
  size_t i = begin;
  while (account.size() < country->length) {
    const char c = at(text, i);
    if (is_digit(c) || (c >= 'A' && c <= 'Z')) {
      account += c;
    } else if (c != ' ' || account.size() % 4 != 0 || at(text, i - 1) == ' ') {
      return 0;
    }
    ++i;
  }
  if (is_alphanumeric(at(text, i))) return 0;
  std::rotate(account.begin(), account.begin() + 4, account.end());
  int remainder = 0;
  for (const char c : account) {
    const int value = is_digit(c) ? c - '0' : c - 'A' + 10;
    remainder = (remainder * (value > 9 ? 100 : 10) + value) % 97;
  }
  return remainder == 1 ? i - begin : 0;
}

size_t card_number_length(std::string_view text, size_t begin) {
  for (const char* separator : {" ", "-"}) {
    const DigitGroups found = read_groups(text, begin, separator);
    for (size_t count = 1; count <= found.num_groups; ++count) {
      const DigitGroups card = found.first(count);
      if (card.digits.size() >= 13 && card.digits.size() <= 19 && ends_number(text, begin + card.length) &&
          is_card_of_known_issuer(card.digits) && luhn_holds(card.digits)) {
        return card.length;
      }
      // In groups as they are embossed: at least four digits each but for the last one.
      if (card.groups[count - 1] < 4 || card.digits.size() >= 19) break;
    }
  }
  return 0;
}

size_t ip_address_length(std::string_view text, size_t begin) {
  const char c = text[begin];
  const size_t v4 = is_digit(c) ? ipv4_length(text, begin) : 0;
  if (v4 > 0) return v4;
  // A public address begins with a group of its first digit 2 or 3; that saves a look at every word of a to f.
  return c == '2' || c == '3' ? ipv6_length(text, begin) : 0;
}

size_t phone_number_length(std::string_view text, size_t begin) {
  const char c = text[begin];
  if (c == '+') {
    if (!is_digit(at(text, begin + 1)) || text[begin + 1] == '0') return 0;
    // +82 (0)2 123 4567: an area code may stand in parentheses.
    size_t i = begin + 1, digits = 0, end = i;
    bool open = false;
    for (; i < text.size() && digits <= 15; ++i) {
      if (is_digit(text[i])) {
        ++digits;
        end = i + 1;
      } else if (text[i] == '(' && !open) {
        open = true;
      } else if (text[i] == ')' && open) {
        open = false;
      } else if ((text[i] != ' ' && text[i] != '-' && text[i] != '.') ||
                 !(is_digit(text[i - 1]) || text[i - 1] == ')')) {
        break;
      }
    }
    return digits >= 8 && digits <= 15 && !is_alphanumeric(at(text, end)) ? end - begin : 0;
  }
  if (c == '(') {  // (212) 555-0123, (02) 123-4567: as if a space stood for the parentheses
    const size_t close = text.substr(begin, 6).find(')');
    if (close == std::string_view::npos || close < 3) return 0;
    size_t rest = begin + close + 1;
    if (at(text, rest) == ' ' || at(text, rest) == '-') ++rest;
    std::string flat(text.substr(begin + 1, close - 1));
    flat += '-';
    flat += text.substr(rest, 16);
    const DigitGroups all = read_groups(flat, 0, " -.");
    const DigitGroups found = all.first(std::min<size_t>(all.num_groups, 3));
    if (!is_korean_phone(found) && !is_american_phone(found)) return 0;
    const size_t end = rest + found.length - close;
    return ends_number(text, end) ? end - begin : 0;
  }
  if (!is_digit(c)) return 0;
  for (const char* separator : {"-", ".", " "}) {
    const DigitGroups found = read_groups(text, begin, separator);
    for (const size_t count : {1, 3, 4}) {
      if (count > found.num_groups) break;
      const DigitGroups phone = found.first(count);
      // Numbers of any table stand side by side with spaces; a Korean number begins with 0.
      const bool american = separator[0] != ' ' && is_american_phone(phone);
      if ((is_korean_phone(phone) || american) && ends_number(text, begin + phone.length)) return phone.length;
    }
  }
  return 0;
}

}  // namespace ondol::clean
