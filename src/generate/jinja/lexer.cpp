#include "generate/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace ondol::jinja {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

/// Jinja2 reads every line end as "\n" and leaves out one at the end of the source.
std::string normalized(const std::string& source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Splitter {
 public:
  explicit Splitter(const std::string& source) : source_(normalized(source)) {}

  std::vector<Segment> run() {
    while (at_ < source_.size()) {
      const size_t tag = find_tag();
      if (tag == std::string::npos) {
        add_text(source_.substr(at_));
        break;
      }
      const char kind = source_[tag + 1];
      read_text(tag, kind);
      if (kind == '#') {
        read_comment();
      } else {
        read_tag(kind);
      }
    }
    return std::move(segments_);
  }

 private:
  size_t find_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos && i + 1 < source_.size();
         i = source_.find('{', i + 1)) {
      if (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#') return i;
    }
    return std::string::npos;
  }

  /// The text before a tag, without the white space that the tag takes away. Leaves at_ behind the tag's beginning.
  void read_text(size_t tag, char kind) {
    std::string text = source_.substr(at_, tag - at_);
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const size_t full_length = text.size();
    if (sign == '-') {
      while (!text.empty() && is_space(text.back())) text.pop_back();
    } else if (sign != '+' && kind != '{') {
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == std::string::npos ? 0 : newline + 1;
      const bool at_line_start = newline != std::string::npos || line_start_;
      if (at_line_start && std::all_of(text.begin() + static_cast<ptrdiff_t>(begin), text.end(), is_space)) {
        text.resize(begin);
      }
    }
    add_text(text);
    advance(full_length + 2);
    if (sign == '-' || sign == '+') advance(1);
  }

  void add_text(const std::string& text) {
    if (text.empty()) return;
    segments_.push_back({Segment::Kind::text, text, {}, line_});
  }

  /// Moves on and counts lines.
  void advance(size_t count) {
    for (size_t i = 0; i < count; ++i) line_ += source_[at_ + i] == '\n';
    at_ += count;
    line_start_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  /// Behind a tag: "-" takes all white space, else one line end goes after statements and comments.
  void after_tag(char sign, bool trims) {
    if (sign == '-') {
      while (at_ < source_.size() && is_space(source_[at_])) advance(1);
    } else if (trims && sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      advance(1);
    }
  }

  void read_comment() {
    const int line = line_;
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) throw LexError{"a comment is not closed", line};
    const char sign = end > at_ ? source_[end - 1] : '\0';
    advance(end - at_ + 2);
    after_tag(sign == '-' || sign == '+' ? sign : '\0', true);
  }

  void read_tag(char kind) {
    const bool output = kind == '{';
    const std::string close = output ? "}}" : "%}";
    Segment segment{output ? Segment::Kind::output : Segment::Kind::statement, "", {}, line_};
    int depth = 0;
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) advance(1);
      if (at_ >= source_.size()) throw LexError{output ? "{{ is not closed" : "{% is not closed", segment.line};
      if (depth == 0) {
        const char sign = source_[at_] == '-' || source_[at_] == '+' ? source_[at_] : '\0';
        if (source_.compare(at_ + (sign != '\0'), 2, close) == 0) {
          segment.tokens.push_back({Token::Kind::end, "", line_});
          advance(2 + (sign != '\0'));
          after_tag(sign, !output);
          break;
        }
      }
      const Token token = read_token();
      if (token.kind == Token::Kind::symbol) {
        if (token.text == "(" || token.text == "[" || token.text == "{") ++depth;
        if (token.text == ")" || token.text == "]" || token.text == "}") --depth;
      }
      segment.tokens.push_back(token);
    }
    if (!output && segment.tokens.front().text == "raw" && segment.tokens.size() == 2) return read_raw(segment.line);
    segments_.push_back(std::move(segment));
  }

  void read_raw(int line) {
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      size_t i = tag + 2;
      while (i < source_.size() && (is_space(source_[i]) || source_[i] == '-')) ++i;
      if (source_.compare(i, 6, "endraw") != 0) continue;
      const size_t end = source_.find("%}", i);
      if (end == std::string::npos) break;
      add_text(source_.substr(at_, tag - at_));
      advance(end + 2 - at_);
      return after_tag(source_[end - 1], true);
    }
    throw LexError{"raw is not closed", line};
  }

  Token read_token() {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return read_string(c);
    if (is_digit(c)) return read_number();
    size_t length = 1;
    Token::Kind kind = Token::Kind::symbol;
    if (is_name_start(c)) {
      kind = Token::Kind::name;
      while (at_ + length < source_.size() && is_name_part(source_[at_ + length])) ++length;
    } else {
      static const char* const pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
      for (const char* pair : pairs) {
        if (source_.compare(at_, 2, pair) == 0) length = 2;
      }
      if (length == 1 && std::string("+-*/%<>=()[]{},.:|~").find(c) == std::string::npos) {
        throw LexError{std::string("unexpected character '") + c + "'", line_};
      }
    }
    Token token{kind, source_.substr(at_, length), line_};
    advance(length);
    return token;
  }

  Token read_number() {
    size_t length = 1;
    bool fraction = false;
    const auto digit = [&](size_t i) { return at_ + i < source_.size() && is_digit(source_[at_ + i]); };
    while (digit(length)) ++length;
    if (at_ + length < source_.size() && source_[at_ + length] == '.' && digit(length + 1)) {
      fraction = true;
      for (++length; digit(length);) ++length;
    }
    Token token{fraction ? Token::Kind::number : Token::Kind::integer, source_.substr(at_, length), line_};
    advance(length);
    return token;
  }

  Token read_string(char quote) {
    Token token{Token::Kind::string, "", line_};
    size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\' || i + 1 == source_.size()) {
        token.text += source_[i];
        continue;
      }
      const char escaped = source_[++i];
      switch (escaped) {
        case 'n':
          token.text += '\n';
          break;
        case 't':
          token.text += '\t';
          break;
        case 'r':
          token.text += '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          token.text += escaped;
          break;
        case '\n':
          break;
        case 'u':
          i += read_code_point(i + 1, token.text);
          break;
        default:
          token.text += std::string("\\") + escaped;
      }
    }
    if (i >= source_.size()) throw LexError{"a string is not closed", token.line};
    advance(i + 1 - at_);
    return token;
  }

  /// Four hexadecimal digits at `begin` as UTF-8.
  size_t read_code_point(size_t begin, std::string& out) const {
    unsigned code = 0;
    for (size_t i = begin; i < begin + 4; ++i) {
      if (i >= source_.size() || !std::isxdigit(static_cast<unsigned char>(source_[i]))) {
        throw LexError{"a \\u escape needs four hexadecimal digits", line_};
      }
      const char c = static_cast<char>(std::tolower(source_[i]));
      code = code * 16 + static_cast<unsigned>(is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 63));
    } else {
      out += static_cast<char>(0xE0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    }
    return 4;
  }

  const std::string source_;
  std::vector<Segment> segments_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_start_ = true;
};

}  // namespace

std::vector<Segment> split_template(const std::string& source) { return Splitter(source).run(); }

}  // namespace ondol::jinja
