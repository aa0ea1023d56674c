// The small normalizers of tokenizer.json: Lowercase, StripAccents, Strip, Prepend, Replace, Nmt.
#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/regex_splitter.h"
#include "tokenizer/unicode.h"

namespace ondol::tokenization {

namespace {

/// Calls body(code point, its place) for every character.
template <class Body>
void for_each_character(std::string_view text, const Body& body) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text, i);
    body(c.value, Origin{i, i + c.length});
    i += c.length;
  }
}

void copy_character(std::string_view text, Origin at, TextWriter& out) {
  out.append(text.substr(at.begin, at.end - at.begin), at);
}

class Lowercase : public Rewriter {
 public:
  bool rewrite(std::string_view text, TextWriter& out) const override {
    for_each_character(text, [&](uint32_t c, Origin at) {
      if (c == kInvalidCodePoint) return copy_character(text, at, out);
      out.append_code_point(to_lowercase(c), at);
      if (c == 0x130) out.append_code_point(0x307, at);
    });
    return true;
  }
};

class StripAccents : public Rewriter {
 public:
  bool rewrite(std::string_view text, TextWriter& out) const override {
    constexpr int kMarksVersion = 9;  // of the reference's table of combining marks
    for_each_character(text, [&](uint32_t c, Origin at) {
      if (c >= 0x300 && is_mark(unicode_category(c)) && assigned_by_unicode(c, kMarksVersion)) return;
      copy_character(text, at, out);
    });
    return true;
  }
};

class Strip : public Rewriter {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  bool rewrite(std::string_view text, TextWriter& out) const override {
    size_t begin = text.size(), end = 0;
    for_each_character(text, [&](uint32_t c, Origin at) {
      if (is_white_space(c)) return;
      begin = std::min(begin, at.begin);
      end = at.end;
    });
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    if (begin == 0 && end == text.size()) return false;
    if (begin < end) out.copy(text, begin, end);
    return true;
  }

 private:
  bool left_, right_;
};

class Prepend : public Rewriter {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  bool rewrite(std::string_view text, TextWriter& out) const override {
    if (text.empty()) return false;
    out.append(prefix_, {0, decode_code_point(text, 0).length});
    out.copy(text, 0, text.size());
    return true;
  }

 private:
  std::string prefix_;
};

class Replace : public Rewriter {
 public:
  Replace(std::optional<Regex> regex, std::string literal, std::string content)
      : regex_(std::move(regex)), literal_(std::move(literal)), content_(std::move(content)) {}

  bool rewrite(std::string_view text, TextWriter& out) const override {
    size_t done = 0;
    bool changed = false;
    const auto match = [&](size_t begin, size_t end) {
      out.copy(text, done, begin);
      Origin last{begin, end};  // the content comes from the last character that it replaces
      if (out.tracks()) {
        for_each_character(text.substr(begin, end - begin),
                           [&](uint32_t, Origin at) { last.begin = begin + at.begin; });
      }
      out.append(content_, last);
      done = end;
      changed = true;
    };
    if (regex_) {
      regex_->for_each_match(text, match);
    } else {
      for (size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, done)) {
        match(at, at + literal_.size());
      }
    }
    if (changed) out.copy(text, done, text.size());
    return changed;
  }

 private:
  std::optional<Regex> regex_;
  std::string literal_, content_;
};

/// The clean-up of the machine translation data SentencePiece was made for: controls go, odd spaces become spaces.
class Nmt : public Rewriter {
 public:
  bool rewrite(std::string_view text, TextWriter& out) const override {
    for_each_character(text, [&](uint32_t c, Origin at) {
      const bool removed =
          (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
      if (removed) return;
      const bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
      if (space) {
        out.append(' ', at);
      } else {
        copy_character(text, at, out);
      }
    });
    return true;
  }
};

/// Every byte as a character of the byte alphabet.
class ByteLevel : public Rewriter {
 public:
  bool rewrite(std::string_view text, TextWriter& out) const override {
    for_each_character(
        text, [&](uint32_t, Origin at) { out.append(to_byte_alphabet(text.substr(at.begin, at.end - at.begin)), at); });
    return true;
  }
};

std::unique_ptr<Rewriter> make_replace(const Json& spec, const std::string& where) {
  const auto pattern = spec.find("pattern");
  if (pattern == spec.end() || !pattern->is_object()) {
    throw UsageError(concat("\"pattern\" must be an object with \"Regex\" or \"String\" (", where, ")"));
  }
  std::string content = string_at(spec, "content", where);
  if (pattern->contains("String")) {
    std::string literal = string_at(*pattern, "String", where);
    if (literal.empty()) throw UsageError(concat("\"String\" must not be empty (", where, ")"));
    return std::make_unique<Replace>(std::nullopt, std::move(literal), std::move(content));
  }
  return std::make_unique<Replace>(Regex(string_at(*pattern, "Regex", where), where), "", std::move(content));
}

}  // namespace

std::unique_ptr<Rewriter> make_text_rewriter(const std::string& type, const Json& spec, const std::string& where) {
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Strip") {
    return std::make_unique<Strip>(bool_at(spec, "strip_left", true, where), bool_at(spec, "strip_right", true, where));
  }
  if (type == "Prepend") return std::make_unique<Prepend>(string_at(spec, "prepend", where));
  if (type == "Replace") return make_replace(spec, where);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "Nmt") return std::make_unique<Nmt>();
  return nullptr;
}

}  // namespace ondol::tokenization
