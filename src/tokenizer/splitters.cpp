// Pre-tokenizers that cut a text without changing it.
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/regex_splitter.h"
#include "tokenizer/split_scanner.h"
#include "tokenizer/unicode.h"

namespace ondol::tokenization {

namespace {

/// Unicode that the reference knows the punctuation of.
constexpr int kPunctuationVersion = 8;

bool is_any_punctuation(uint32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7f && !(c - '0' < 10) && !((c | 32u) - 'a' < 26);
  return is_punctuation(unicode_category(c)) && assigned_by_unicode(c, kPunctuationVersion);
}

/// \p{N} apart from everything else, one by one or in runs.
class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void split(std::string_view text, bool, PieceSink& sink) const override {
    size_t begin = 0;
    bool in_number = false;
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = decode_code_point(text, i);
      const bool number = char_classes()[c.value] == CharClass::number;
      if (i > begin && (number != in_number || (number && individual_))) {
        sink.piece(text.substr(begin, i - begin));
        begin = i;
      }
      in_number = number;
      i += c.length;
    }
    sink.piece(text.substr(begin));
  }
  Cut cut_at_newline() const override { return Cut::neutral; }

 private:
  bool individual_;
};

/// What a character does in a splitter that drops white space.
enum class Role : uint8_t { word, other, alone, space };

/// Runs of words and of other characters, single characters that stand alone; white space is dropped.
class WordSplitter : public PreTokenizer {
 public:
  explicit WordSplitter(Role (*role)(uint32_t)) : role_(role) {
    for (uint32_t c = 0; c < 0x80; ++c) ascii_[c] = role(c);
  }

  void split(std::string_view text, bool, PieceSink& sink) const override {
    size_t begin = 0;
    Role run = Role::space;
    for (size_t i = 0; i < text.size();) {
      const auto byte = static_cast<uint8_t>(text[i]);
      size_t length = 1;
      Role role;
      if (byte < 0x80) {
        role = ascii_[byte];
      } else {
        const CodePoint c = decode_code_point(text, i);
        length = c.length;
        role = role_(c.value);
      }
      if (role != run || role == Role::alone) {
        if (run != Role::space && i > begin) sink.piece(text.substr(begin, i - begin));
        begin = i;
        run = role;
      }
      i += length;
    }
    if (run != Role::space && begin < text.size()) sink.piece(text.substr(begin));
  }
  Cut cut_at_newline() const override { return Cut::always_there; }

 private:
  Role (*role_)(uint32_t);
  Role ascii_[0x80];
};

Role bert_role(uint32_t c) {
  return is_white_space(c) ? Role::space : is_any_punctuation(c) ? Role::alone : Role::word;
}
Role white_space_role(uint32_t c) { return is_white_space(c) ? Role::space : Role::word; }
/// \w+|[^\w\s]+
Role word_role(uint32_t c) { return is_white_space(c) ? Role::space : is_word_character(c) ? Role::word : Role::other; }

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior behavior_from_name(const std::string& name, const std::string& where) {
  const std::pair<const char*, Behavior> names[] = {{"Removed", Behavior::removed},
                                                    {"Isolated", Behavior::isolated},
                                                    {"MergedWithPrevious", Behavior::merged_with_previous},
                                                    {"MergedWithNext", Behavior::merged_with_next},
                                                    {"Contiguous", Behavior::contiguous}};
  for (const auto& [known, value] : names) {
    if (name == known) return value;
  }
  throw UsageError(concat("unknown split behavior \"", name, "\" (", where, ")"));
}

/// One of the known patterns, each match a piece.
class KnownSplit : public PreTokenizer {
 public:
  explicit KnownSplit(SplitPattern pattern) : pattern_(pattern) {}
  void split(std::string_view text, bool, PieceSink& sink) const override { scan_pieces(pattern_, text, sink); }
  Cut cut_at_newline() const override { return Cut::always_there; }

 private:
  SplitPattern pattern_;
};

using Match = std::function<void(size_t begin, size_t end)>;
/// Calls match for every place where a pattern matches, in order.
using Finder = std::function<void(std::string_view text, const Match& match)>;

/// Any pattern and behavior.
class GeneralSplit : public PreTokenizer {
 public:
  GeneralSplit(Finder finder, Behavior behavior, bool invert)
      : finder_(std::move(finder)), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, bool, PieceSink& sink) const override {
    std::vector<Part> parts;
    const auto add = [&](size_t begin, size_t end, bool matched) {
      if (begin < end) parts.push_back({begin, end, matched != invert_});
    };
    size_t last = 0;
    finder_(text, [&](size_t begin, size_t end) {
      add(last, begin, false);
      add(begin, end, true);
      last = end;
    });
    add(last, text.size(), false);
    merge(parts);
    for (const Part& part : parts) {
      if (behavior_ == Behavior::removed && part.matched) continue;
      sink.piece(text.substr(part.begin, part.end - part.begin));
    }
  }

 private:
  struct Part {
    size_t begin, end;
    bool matched;
  };

  void merge(std::vector<Part>& parts) const {
    if (behavior_ == Behavior::isolated || behavior_ == Behavior::removed) return;
    std::vector<Part> merged;
    for (const Part& part : parts) {
      const bool joins = !merged.empty() && [&] {
        const bool previous = merged.back().matched;
        switch (behavior_) {
          case Behavior::contiguous:
            return previous == part.matched;
          case Behavior::merged_with_previous:
            return part.matched && !previous;
          default:
            return previous && !part.matched;
        }
      }();
      if (joins) {
        merged.back().end = part.end;
        merged.back().matched = part.matched;
      } else {
        merged.push_back(part);
      }
    }
    parts = std::move(merged);
  }

  Finder finder_;
  Behavior behavior_;
  bool invert_;
};

Finder find_literal(std::string literal) {
  return [literal = std::move(literal)](std::string_view text, const Match& match) {
    size_t last = 0;
    for (size_t at = text.find(literal); at != text.npos; at = text.find(literal, last)) {
      last = at + literal.size();
      match(at, last);
    }
  };
}

Finder find_regex(Regex regex) {
  return [regex = std::make_shared<Regex>(std::move(regex))](std::string_view text, const Match& match) {
    regex->for_each_match(text, match);
  };
}

void find_punctuation(std::string_view text, const Match& match) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text, i);
    if (is_any_punctuation(c.value)) match(i, i + c.length);
    i += c.length;
  }
}

std::unique_ptr<PreTokenizer> make_split(const Json& spec, const std::string& where) {
  const Behavior behavior = behavior_from_name(string_at(spec, "behavior", where), where);
  const bool invert = bool_at(spec, "invert", false, where);
  const auto pattern = spec.find("pattern");
  if (pattern == spec.end() || !pattern->is_object()) {
    throw UsageError(concat("\"pattern\" must be an object with \"Regex\" or \"String\" (", where, ")"));
  }
  if (pattern->contains("String")) {
    const std::string literal = string_at(*pattern, "String", where);
    if (literal.empty()) throw UsageError(concat("\"String\" must not be empty (", where, ")"));
    return std::make_unique<GeneralSplit>(find_literal(literal), behavior, invert);
  }
  const std::string regex = string_at(*pattern, "Regex", where);
  const std::optional<SplitPattern> known = recognise_split_pattern(regex);
  // The known patterns match every character: "Removed" with "invert" means the same as "Isolated".
  if (known && ((behavior == Behavior::isolated && !invert) || (behavior == Behavior::removed && invert))) {
    return std::make_unique<KnownSplit>(*known);
  }
  return std::make_unique<GeneralSplit>(find_regex(Regex(regex, where)), behavior, invert);
}

}  // namespace

std::unique_ptr<PreTokenizer> make_splitter(const std::string& type, const Json& spec, const std::string& where) {
  if (type == "BertPreTokenizer") return std::make_unique<WordSplitter>(bert_role);
  if (type == "Whitespace") return std::make_unique<WordSplitter>(word_role);
  if (type == "WhitespaceSplit") return std::make_unique<WordSplitter>(white_space_role);
  if (type == "Digits") return std::make_unique<Digits>(bool_at(spec, "individual_digits", false, where));
  if (type == "Split") return make_split(spec, where);
  if (type == "Punctuation") {
    const Behavior behavior = behavior_from_name(string_at(spec, "behavior", "Isolated", where), where);
    return std::make_unique<GeneralSplit>(find_punctuation, behavior, false);
  }
  if (type == "CharDelimiterSplit") {
    const std::string delimiter = string_at(spec, "delimiter", where);
    if (delimiter.empty()) throw UsageError(concat("\"delimiter\" must not be empty (", where, ")"));
    return std::make_unique<GeneralSplit>(find_literal(delimiter), Behavior::removed, false);
  }
  return nullptr;
}

}  // namespace ondol::tokenization
