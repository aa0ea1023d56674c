#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr size_t kMaxBytes = 2000;

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::string without_middle(const std::string& text) {
  if (text.size() <= kMaxBytes) return text;
  size_t head = kMaxBytes / 2, tail = text.size() - kMaxBytes / 2;
  while (head > 0 && is_continuation(text[head])) --head;
  while (tail < text.size() && is_continuation(text[tail])) ++tail;
  return text.substr(0, head) + " ... " + text.substr(tail);
}

std::string one_line(const std::string& message) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string line;
  for (const char c : without_middle(message)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else if (c == '\n') {
      line += "\\n";
    } else {
      line += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return line;
}

}  // namespace

Error::Error(const std::string& message, const std::string& hint, ErrorKind kind)
    : std::runtime_error(one_line(message)), hint_(one_line(hint)), kind_(kind) {}

}  // namespace ondol
