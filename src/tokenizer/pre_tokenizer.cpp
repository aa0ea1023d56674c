#include "tokenizer/pre_tokenizer.h"

#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/regex_splitter.h"
#include "tokenizer/split_scanner.h"
#include "tokenizer/unicode.h"

namespace ondol::tokenization {

namespace {

class WholeText : public PreTokenizer {
 public:
  void split(std::string_view text, PieceSink& sink) const override { sink.piece(text); }
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}

  void split(std::string_view text, PieceSink& sink) const override {
    if (add_prefix_space_ && text.front() != ' ') {
      const std::string prefixed = concat(' ', text);
      split_prefixed(prefixed, sink);
    } else {
      split_prefixed(text, sink);
    }
  }
  bool byte_level() const override { return true; }
  Cut cut_at_newline() const override {
    return add_prefix_space_ ? Cut::moves_pieces : use_regex_ ? Cut::always_there : Cut::neutral;
  }

 private:
  void split_prefixed(std::string_view text, PieceSink& sink) const {
    if (use_regex_) {
      scan_pieces(SplitPattern::gpt2, text, sink);
    } else {
      sink.piece(text);
    }
  }

  bool add_prefix_space_, use_regex_;
};

/// \p{N} apart from everything else, one by one or in runs.
class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void split(std::string_view text, PieceSink& sink) const override {
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
  void split(std::string_view text, PieceSink& sink) const override { scan_pieces(pattern_, text, sink); }
  Cut cut_at_newline() const override { return Cut::always_there; }

 private:
  SplitPattern pattern_;
};

/// Any pattern and behavior.
class GeneralSplit : public PreTokenizer {
 public:
  GeneralSplit(std::optional<Regex> regex, std::string literal, Behavior behavior, bool invert)
      : regex_(std::move(regex)), literal_(std::move(literal)), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, PieceSink& sink) const override {
    std::vector<Part> parts;
    const auto add = [&](size_t begin, size_t end, bool matched) {
      if (begin < end) parts.push_back({begin, end, matched != invert_});
    };
    size_t last = 0;
    const auto match = [&](size_t begin, size_t end) {
      add(last, begin, false);
      add(begin, end, true);
      last = end;
    };
    if (regex_) {
      regex_->for_each_match(text, match);
    } else {
      for (size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, last)) {
        match(at, at + literal_.size());
      }
    }
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

  std::optional<Regex> regex_;
  std::string literal_;
  Behavior behavior_;
  bool invert_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) : stages_(std::move(stages)) {}

  void split(std::string_view text, PieceSink& sink) const override { run(0, text, sink); }
  bool byte_level() const override { return !stages_.empty() && stages_.back()->byte_level(); }
  Cut cut_at_newline() const override {
    Cut result = Cut::neutral;
    for (const auto& stage : stages_) {
      const Cut cut = stage->cut_at_newline();
      if (cut == Cut::moves_pieces) return cut;
      if (cut == Cut::always_there) result = cut;
    }
    return result;
  }

 private:
  class Stage : public PieceSink {
   public:
    Stage(const Sequence& owner, size_t index, PieceSink& sink) : owner_(owner), index_(index), sink_(sink) {}
    void piece(std::string_view text) override { owner_.run(index_, text, sink_); }

   private:
    const Sequence& owner_;
    size_t index_;
    PieceSink& sink_;
  };

  void run(size_t index, std::string_view text, PieceSink& sink) const {
    if (index == stages_.size()) {
      sink.piece(text);
    } else if (index + 1 == stages_.size()) {
      stages_[index]->split(text, sink);
    } else {
      Stage next(*this, index + 1, sink);
      stages_[index]->split(text, next);
    }
  }

  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

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
    return std::make_unique<GeneralSplit>(std::nullopt, literal, behavior, invert);
  }
  const std::string regex = string_at(*pattern, "Regex", where);
  const std::optional<SplitPattern> known = recognise_split_pattern(regex);
  // The known patterns match every character: "Removed" with "invert" means the same as "Isolated".
  if (known && ((behavior == Behavior::isolated && !invert) || (behavior == Behavior::removed && invert))) {
    return std::make_unique<KnownSplit>(*known);
  }
  return std::make_unique<GeneralSplit>(Regex(regex, where), "", behavior, invert);
}

std::unique_ptr<PreTokenizer> make_component(const Json& spec, const std::string& where) {
  const std::string type = string_at(spec, "type", where);
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevel>(bool_at(spec, "add_prefix_space", true, where),
                                       bool_at(spec, "use_regex", true, where));
  }
  if (type == "Split") return make_split(spec, where);
  if (type == "Digits") return std::make_unique<Digits>(bool_at(spec, "individual_digits", false, where));
  if (type == "Sequence") {
    const auto& list = array_at(spec, "pretokenizers", where);
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (const auto& item : list) {
      if (!stages.empty() && stages.back()->byte_level()) {
        throw UsageError(concat("a stage after ByteLevel is not supported (", where, ".pretokenizers)"));
      }
      stages.push_back(make_component(item, concat(where, ".pretokenizers[", stages.size(), "]")));
    }
    return std::make_unique<Sequence>(std::move(stages));
  }
  throw UsageError(concat("pre-tokenizer type \"", type, "\" is not supported (", where, ")"));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& spec, const std::string& file) {
  if (spec.is_null()) return std::make_unique<WholeText>();
  return make_component(spec, concat(file, ", pre_tokenizer"));
}

}  // namespace ondol::tokenization
