#include "tokenizer/pre_tokenizer.h"

#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/split_scanner.h"
#include "tokenizer/tracked_text.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

constexpr const char* kSupported =
    "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, Metaspace, Punctuation, Sequence, Split, Whitespace, "
    "WhitespaceSplit";

class WholeText : public PreTokenizer {
 public:
  void split(std::string_view text, bool, PieceSink& sink) const override { sink.piece(text); }
};

/// The origins of a text that was made of `source` by putting `prefix` bytes in front of it.
Origins prefixed_origins(const Origin* origins, size_t prefix, size_t size) {
  Origins result(prefix, origins[0]);
  result.insert(result.end(), origins, origins + size);
  return result;
}

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool raw_bytes)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex), raw_bytes_(raw_bytes) {}

  void split(std::string_view text, bool, PieceSink& sink) const override {
    if (raw_bytes_) {
      split_raw(text, sink);
    } else {
      Speller speller(sink);
      split_raw(text, speller);
    }
  }
  Cut cut_at_newline() const override {
    return add_prefix_space_ ? Cut::moves_pieces : use_regex_ ? Cut::always_there : Cut::neutral;
  }

 private:
  /// Spells pieces in the byte alphabet on their way.
  class Speller : public PieceSink {
   public:
    explicit Speller(PieceSink& next) : PieceSink(next.origins()), next_(next) {}
    void piece(std::string_view text) override {
      const std::string spelled = to_byte_alphabet(text);
      if (origins() != nullptr) {
        const Origin* from = origins()->of(text);
        Origins spelled_origins;
        for (size_t i = 0; i < text.size(); ++i) {
          spelled_origins.insert(spelled_origins.end(), to_byte_alphabet(text.substr(i, 1)).size(), from[i]);
        }
        origins()->push(spelled, std::move(spelled_origins));
      }
      next_.piece(spelled);
      if (origins() != nullptr) origins()->pop();
    }

   private:
    PieceSink& next_;
  };

  void split_raw(std::string_view text, PieceSink& sink) const {
    if (!add_prefix_space_ || text.front() == ' ') return scan(text, sink);
    const std::string prefixed = concat(' ', text);
    OriginStack* origins = sink.origins();
    if (origins != nullptr) origins->push(prefixed, prefixed_origins(origins->of(text), 1, text.size()));
    scan(prefixed, sink);
    if (origins != nullptr) origins->pop();
  }

  void scan(std::string_view text, PieceSink& sink) const {
    if (use_regex_) {
      scan_pieces(SplitPattern::gpt2, text, sink);
    } else {
      sink.piece(text);
    }
  }

  bool add_prefix_space_, use_regex_, raw_bytes_;
};

/// Spaces become a visible character, which words then begin with.
class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void split(std::string_view text, bool first, PieceSink& sink) const override {
    OriginStack* stack = sink.origins();
    const Origin* from = stack != nullptr ? stack->of(text) : nullptr;
    std::string marked;
    Origins origins;
    TextWriter out(marked, stack != nullptr ? &origins : nullptr);
    const auto origin = [&](size_t i) { return from != nullptr ? from[i] : Origin{i, i + 1}; };
    const bool wanted = prepend_ == Prepend::always || (prepend_ == Prepend::first && first);
    if (wanted && text.front() != ' ' && !text.starts_with(replacement_)) out.append(replacement_, origin(0));
    for (size_t i = 0; i < text.size(); ++i) {
      text[i] == ' ' ? out.append(replacement_, origin(i)) : out.append(text[i], origin(i));
    }
    if (stack != nullptr) stack->push(marked, std::move(origins));
    send(marked, sink);
    if (stack != nullptr) stack->pop();
  }

 private:
  void send(std::string_view marked, PieceSink& sink) const {
    if (split_) {
      for (size_t at; (at = marked.find(replacement_, 1)) != marked.npos; marked.remove_prefix(at)) {
        sink.piece(marked.substr(0, at));
      }
    }
    sink.piece(marked);
  }

  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) : stages_(std::move(stages)) {}

  void split(std::string_view text, bool first, PieceSink& sink) const override { run(0, text, first, sink); }
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
    Stage(const Sequence& owner, size_t index, const char* start, PieceSink& sink)
        : PieceSink(sink.origins()), owner_(owner), index_(index), start_(start), sink_(sink) {}
    void piece(std::string_view text) override {
      owner_.run(index_, text, start_ != nullptr && text.data() == start_, sink_);
    }

   private:
    const Sequence& owner_;
    size_t index_;
    const char* start_;  // where the text of the user begins, if it does here
    PieceSink& sink_;
  };

  void run(size_t index, std::string_view text, bool first, PieceSink& sink) const {
    if (index == stages_.size()) {
      sink.piece(text);
    } else if (index + 1 == stages_.size()) {
      stages_[index]->split(text, first, sink);
    } else {
      Stage next(*this, index + 1, first ? text.data() : nullptr, sink);
      stages_[index]->split(text, first, next);
    }
  }

  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

std::unique_ptr<PreTokenizer> make_metaspace(const Json& spec, const std::string& where) {
  const std::string replacement = string_at(spec, "replacement", "\u2581", where);
  if (replacement.empty()) throw UsageError(concat("\"replacement\" must not be empty (", where, ")"));
  const bool prefix = bool_at(spec, "add_prefix_space", true, where);  // of old files
  const std::string scheme = string_at(spec, "prepend_scheme", prefix ? "always" : "never", where);
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw UsageError(concat("\"prepend_scheme\" must be always, first or never, not \"", scheme, "\" (", where, ")"));
  }
  const auto prepend = scheme == "always"  ? Metaspace::Prepend::always
                       : scheme == "first" ? Metaspace::Prepend::first
                                           : Metaspace::Prepend::never;
  return std::make_unique<Metaspace>(replacement, prepend, bool_at(spec, "split", true, where));
}

std::unique_ptr<PreTokenizer> make_component(const Json& spec, const std::string& where, bool raw_bytes) {
  const std::string type = string_at(spec, "type", where);
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevel>(bool_at(spec, "add_prefix_space", true, where),
                                       bool_at(spec, "use_regex", true, where), raw_bytes);
  }
  if (type == "Metaspace") return make_metaspace(spec, where);
  if (type == "Sequence") {
    const auto& list = array_at(spec, "pretokenizers", where);
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (const auto& item : list) {
      const bool last = stages.size() + 1 == list.size();
      stages.push_back(make_component(item, concat(where, ".pretokenizers[", stages.size(), "]"), raw_bytes && last));
    }
    return std::make_unique<Sequence>(std::move(stages));
  }
  if (auto splitter = make_splitter(type, spec, where)) return splitter;
  throw UsageError(concat("pre-tokenizer type \"", type, "\" is not supported (", where, ")"),
                   concat("supported: ", kSupported));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& spec, const std::string& file, bool raw_bytes) {
  if (spec.is_null()) return std::make_unique<WholeText>();
  return make_component(spec, concat(file, ", pre_tokenizer"), raw_bytes);
}

bool ends_in_byte_level(const Json& spec) {
  if (!spec.is_object() || !spec.contains("type")) return false;
  if (spec["type"] == "ByteLevel") return true;
  if (spec["type"] != "Sequence" || !spec.contains("pretokenizers")) return false;
  const Json& list = spec["pretokenizers"];
  return list.is_array() && !list.empty() && ends_in_byte_level(list.back());
}

}  // namespace ondol::tokenization
