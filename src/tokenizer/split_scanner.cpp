#include "tokenizer/split_scanner.h"

#include <cstdint>

#include "tokenizer/unicode.h"

namespace ondol::tokenization {

namespace {

constexpr const char* kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kCl100kRegex = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+)"
                                     R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Regex = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+)"
                                    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct KnownRegex {
  const char* text;
  SplitPattern pattern;
};

// Spellings found in published files that mean the same. (tiktoken's newer cl100k with \s++$ does not: it keeps white
// space with newlines at the end of a text together.)
constexpr KnownRegex kKnownRegexes[] = {
    {kGpt2Regex, SplitPattern::gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", SplitPattern::gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)", SplitPattern::gpt2},
    {kCl100kRegex, SplitPattern::cl100k},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+)"
     R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     SplitPattern::cl100k},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+)"
     R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     SplitPattern::cl100k},
    {kQwen2Regex, SplitPattern::qwen2},
};

class Scanner {
 public:
  Scanner(std::string_view text, PieceSink& sink)
      : p_(reinterpret_cast<const uint8_t*>(text.data())), end_(p_ + text.size()), sink_(sink) {}

  void scan_gpt2() {
    while (p_ < end_) {
      const uint8_t* at = p_;
      if (*p_ == '\'') {
        if (const size_t length = contraction(p_, false)) {
          emit(p_ + length);
          continue;
        }
      } else if (*p_ == ' ' && p_ + 1 < end_) {
        ++at;  // " ?" of the word, number and symbol alternatives
      }
      const Unit unit = unit_at(at);
      switch (unit.kind) {
        case CharClass::letter:
          emit(skip(at + unit.length, CharClass::letter));
          break;
        case CharClass::number:
          emit(skip(at + unit.length, CharClass::number));
          break;
        case CharClass::other:
          emit(skip(at + unit.length, CharClass::other));
          break;
        default:
          emit(end_of_space(skip_space(p_).end));
          break;
      }
    }
  }

  /// cl100k and its relatives: \p{N}{1,max_digits}.
  void scan_cl100k(int max_digits) {
    while (p_ < end_) {
      if (*p_ == '\'') {
        if (const size_t length = contraction(p_, true)) {
          emit(p_ + length);
          continue;
        }
      }
      const Unit unit = unit_at(p_);
      const uint8_t* next = p_ + unit.length;
      if (unit.kind == CharClass::letter) {
        emit(skip(next, CharClass::letter));
        continue;
      }
      if (unit.kind == CharClass::number) {
        for (int digits = 1; digits < max_digits && next < end_; ++digits) {
          const Unit digit = unit_at(next);
          if (digit.kind != CharClass::number) break;
          next += digit.length;
        }
        emit(next);
        continue;
      }
      const Unit following = next < end_ ? unit_at(next) : Unit{CharClass::space, 0};
      if (unit.kind != CharClass::newline && following.kind == CharClass::letter && next < end_) {
        emit(skip(next + following.length, CharClass::letter));
        continue;
      }
      const bool spaced_symbol = *p_ == ' ' && next < end_ && following.kind == CharClass::other;
      if (unit.kind == CharClass::other || spaced_symbol) {
        const uint8_t* q = skip(next, CharClass::other);
        while (q < end_ && (*q == '\n' || *q == '\r')) ++q;
        emit(q);
        continue;
      }
      const SpaceRun run = skip_space(p_);
      emit(run.after_newline != nullptr ? run.after_newline : end_of_space(run.end));
    }
  }

 private:
  struct Unit {
    CharClass kind;
    uint32_t length;
  };
  struct SpaceRun {
    const uint8_t* end;
    const uint8_t* after_newline;  // behind the last newline of the run, null without one
  };

  Unit unit_at(const uint8_t* p) const {
    if (*p < 0x80) return {ascii_[*p], 1};
    const CodePoint c = decode_code_point(p, end_);
    return {classes_[c.value], c.length};
  }

  const uint8_t* skip(const uint8_t* p, CharClass kind) const {
    while (p < end_) {
      const Unit unit = unit_at(p);
      if (unit.kind != kind) break;
      p += unit.length;
    }
    return p;
  }

  SpaceRun skip_space(const uint8_t* p) const {
    const uint8_t* after_newline = nullptr;
    while (p < end_) {
      const Unit unit = unit_at(p);
      if (unit.kind != CharClass::space && unit.kind != CharClass::newline) break;
      p += unit.length;
      if (unit.kind == CharClass::newline) after_newline = p;
    }
    return {p, after_newline};
  }

  /// \s+(?!\S)|\s+ for the run [p_, run_end): all of it at the end of the text, otherwise all but its last character
  /// (which may belong to what follows), but at least one.
  const uint8_t* end_of_space(const uint8_t* run_end) const {
    if (run_end == end_) return run_end;
    const uint8_t* last = run_end - 1;
    while (last > p_ && (*last & 0xc0) == 0x80) --last;
    return last > p_ ? last : run_end;
  }

  /// Length of the contraction at p (an apostrophe), 0 if there is none.
  size_t contraction(const uint8_t* p, bool ignore_case) const {
    const size_t left = static_cast<size_t>(end_ - p);
    if (left < 2) return 0;
    const uint8_t fold = ignore_case ? 0x20 : 0;
    const uint8_t a = p[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    // U+017F (long s) is a case variant of s.
    if (ignore_case && left >= 3 && p[1] == 0xc5 && p[2] == 0xbf) return 3;
    if (left < 3) return 0;
    const uint8_t b = p[2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
  }

  void emit(const uint8_t* to) {
    sink_.piece({reinterpret_cast<const char*>(p_), static_cast<size_t>(to - p_)});
    p_ = to;
  }

  const CharClassTable& classes_ = char_classes();
  const CharClass* ascii_ = classes_.data[classes_.page[0]];
  const uint8_t* p_;
  const uint8_t* end_;
  PieceSink& sink_;
};

}  // namespace

const char* split_pattern_regex(SplitPattern pattern) {
  switch (pattern) {
    case SplitPattern::gpt2:
      return kGpt2Regex;
    case SplitPattern::cl100k:
      return kCl100kRegex;
    case SplitPattern::qwen2:
      return kQwen2Regex;
  }
  return "";
}

std::optional<SplitPattern> recognise_split_pattern(std::string_view regex) {
  for (const KnownRegex& known : kKnownRegexes) {
    if (regex == known.text) return known.pattern;
  }
  return std::nullopt;
}

void scan_pieces(SplitPattern pattern, std::string_view text, PieceSink& sink) {
  Scanner scanner(text, sink);
  switch (pattern) {
    case SplitPattern::gpt2:
      scanner.scan_gpt2();
      break;
    case SplitPattern::cl100k:
      scanner.scan_cl100k(3);
      break;
    case SplitPattern::qwen2:
      scanner.scan_cl100k(1);
      break;
  }
}

}  // namespace ondol::tokenization
