#include "tokenizer/decode_steps.h"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/regex_splitter.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
}

/// A step that needs each token whole: those that come in parts are kept until they end.
class TokenStep : public DecodeStep {
 public:
  void part(std::string_view text, bool begins, bool ends) override {
    if (begins && ends) return token(text);
    if (begins) kept_.clear();
    kept_ += text;
    if (ends) token(kept_);
  }

 protected:
  virtual void token(std::string_view text) = 0;

 private:
  std::string kept_;
};

class ByteLevelStep : public TokenStep {
 protected:
  void token(std::string_view text) override {
    emit(from_byte_alphabet(text, bytes_) ? std::string_view(bytes_) : text, true, true);
  }

 private:
  std::string bytes_;
};

class JoinStep : public TokenStep {
 protected:
  void token(std::string_view text) override {
    emit(first_ ? std::string(text) : concat(' ', text), true, true);
    first_ = false;
  }

 private:
  bool first_ = true;
};

/// The detokenization of English that BERT's decoder does, within one token.
void clean_up(std::string& text) {
  constexpr std::pair<const char*, const char*> kReplacements[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kReplacements) replace_all(text, from, to);
}

class WordPieceStep : public TokenStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

 protected:
  void token(std::string_view text) override {
    text_.clear();
    if (!first_) {
      if (text.starts_with(prefix_)) {
        text.remove_prefix(prefix_.size());
      } else {
        text_ += ' ';
      }
    }
    text_ += text;
    if (cleanup_) clean_up(text_);
    first_ = false;
    emit(text_, true, true);
  }

 private:
  std::string prefix_, text_;
  bool cleanup_, first_ = true;
};

class MetaspaceStep : public TokenStep {
 public:
  MetaspaceStep(std::string replacement, bool prefixed) : replacement_(std::move(replacement)), prefixed_(prefixed) {}

 protected:
  void token(std::string_view text) override {
    text_ = text;
    replace_all(text_, replacement_, first_ && prefixed_ ? "" : " ");
    first_ = false;
    emit(text_, true, true);
  }

 private:
  std::string replacement_, text_;
  bool prefixed_, first_ = true;
};

/// The suffix of a word's last token becomes a space, except at the end.
class BpeStep : public TokenStep {
 public:
  explicit BpeStep(std::string suffix) : suffix_(std::move(suffix)) {}

  void finish() override {
    if (kept_) send("");
    kept_.reset();
    TokenStep::finish();
  }

 protected:
  void token(std::string_view text) override {
    if (kept_) send(" ");
    kept_ = text;
  }

 private:
  void send(std::string_view replacement) {
    if (!suffix_.empty()) replace_all(*kept_, suffix_, replacement);
    emit(*kept_, true, true);
  }

  std::string suffix_;
  std::optional<std::string> kept_;
};

/// "<0xE2>" is that byte. Bytes that make no character stay bytes (the reference writes U+FFFD for them).
class ByteFallbackStep : public TokenStep {
 protected:
  void token(std::string_view text) override {
    const auto digit = [](char c) {
      return c >= '0' && c <= '9'   ? c - '0'
             : c >= 'A' && c <= 'F' ? c - 'A' + 10
             : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                    : -1;
    };
    if (text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && digit(text[3]) >= 0 && digit(text[4]) >= 0) {
      const char byte = static_cast<char>(digit(text[3]) * 16 + digit(text[4]));
      emit({&byte, 1}, true, true);
    } else {
      emit(text, true, true);
    }
  }
};

class FuseStep : public DecodeStep {
 public:
  void part(std::string_view text, bool, bool) override {
    emit(text, first_, false);
    first_ = false;
  }
  void finish() override {
    if (!first_) emit("", false, true);
    DecodeStep::finish();
  }

 private:
  bool first_ = true;
};

/// Takes up to `start` (`stop`) copies of a character from the beginning (end) of every token.
class StripStep : public DecodeStep {
 public:
  StripStep(std::string content, size_t start, size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  void part(std::string_view text, bool begins, bool ends) override {
    if (begins) {
      left_ = start_;
      held_ = 0;
    }
    while (left_ > 0 && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      --left_;
    }
    if (!text.empty()) left_ = 0;
    std::string out;
    // Copies at the end are held back as long as they may be the last ones.
    size_t trailing = 0;
    while (trailing < stop_ && text.substr(0, text.size() - trailing * content_.size()).ends_with(content_)) ++trailing;
    const std::string_view rest = text.substr(0, text.size() - trailing * content_.size());
    if (!rest.empty()) {
      for (; held_ > 0; --held_) out += content_;
    }
    out += rest;
    held_ += trailing;
    for (; held_ > stop_; --held_) out += content_;
    if (ends) held_ = 0;
    emit(out, begins, ends);
  }

 private:
  std::string content_;
  size_t start_, stop_, left_ = 0, held_ = 0;
};

class ReplaceStep : public DecodeStep {
 public:
  ReplaceStep(std::string literal, std::string content) : literal_(std::move(literal)), content_(std::move(content)) {}

  void part(std::string_view text, bool begins, bool ends) override {
    if (begins) kept_.clear();
    kept_ += text;
    std::string out;
    size_t done = 0;
    for (size_t at; (at = kept_.find(literal_, done)) != kept_.npos; done = at + literal_.size()) {
      out.append(kept_, done, at - done);
      out += content_;
    }
    // What may be the beginning of the literal waits for the next part.
    size_t wait = ends ? 0 : std::min(literal_.size() - 1, kept_.size() - done);
    while (wait > 0 && !std::string_view(literal_).starts_with(std::string_view(kept_).substr(kept_.size() - wait)))
      --wait;
    out.append(kept_, done, kept_.size() - wait - done);
    kept_.erase(0, kept_.size() - wait);
    emit(out, begins, ends);
  }

 private:
  std::string literal_, content_, kept_;
};

class RegexReplaceStep : public TokenStep {
 public:
  RegexReplaceStep(std::shared_ptr<const Regex> regex, std::string content)
      : regex_(std::move(regex)), content_(std::move(content)) {}

 protected:
  void token(std::string_view text) override {
    std::string out;
    size_t done = 0;
    regex_->for_each_match(text, [&](size_t begin, size_t end) {
      out += text.substr(done, begin - done);
      out += content_;
      done = end;
    });
    out += text.substr(done);
    emit(out, true, true);
  }

 private:
  std::shared_ptr<const Regex> regex_;
  std::string content_;
};

/// Connectionist temporal classification: repeated tokens count once, padding not at all.
class CtcStep : public TokenStep {
 public:
  CtcStep(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}

 protected:
  void token(std::string_view text) override {
    if (last_ == text) return;
    last_ = text;
    std::string out(text);
    if (!pad_.empty()) replace_all(out, pad_, "");
    if (cleanup_) {
      clean_up(out);
      if (!delimiter_.empty()) replace_all(out, delimiter_, " ");
    }
    if (!out.empty()) emit(out, true, true);
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
  std::optional<std::string> last_;
};

size_t count_at(const Json& spec, const char* key, const std::string& where) {
  const int64_t count = integer_at(spec, key, where);
  if (count < 0 || count > 1024) throw UsageError(concat('"', key, "\" must be between 0 and 1024 (", where, ")"));
  return static_cast<size_t>(count);
}

StepMaker make_replace_step(const Json& spec, const std::string& where) {
  const auto pattern = spec.find("pattern");
  if (pattern == spec.end() || !pattern->is_object()) {
    throw UsageError(concat("\"pattern\" must be an object with \"Regex\" or \"String\" (", where, ")"));
  }
  const std::string content = string_at(spec, "content", where);
  if (pattern->contains("String")) {
    const std::string literal = string_at(*pattern, "String", where);
    if (literal.empty()) throw UsageError(concat("\"String\" must not be empty (", where, ")"));
    return [=] { return std::make_unique<ReplaceStep>(literal, content); };
  }
  const auto regex = std::make_shared<const Regex>(string_at(*pattern, "Regex", where), where);
  return [=] { return std::make_unique<RegexReplaceStep>(regex, content); };
}

}  // namespace

StepMaker make_join_step() {
  return [] { return std::make_unique<JoinStep>(); };
}

StepMaker make_decode_step(const std::string& type, const Json& spec, const std::string& where) {
  if (type == "ByteLevel") return [] { return std::make_unique<ByteLevelStep>(); };
  if (type == "ByteFallback") return [] { return std::make_unique<ByteFallbackStep>(); };
  if (type == "Fuse") return [] { return std::make_unique<FuseStep>(); };
  if (type == "Replace") return make_replace_step(spec, where);
  if (type == "WordPiece") {
    const std::string prefix = string_at(spec, "prefix", "##", where);
    const bool cleanup = bool_at(spec, "cleanup", true, where);
    return [=] { return std::make_unique<WordPieceStep>(prefix, cleanup); };
  }
  if (type == "Metaspace") {
    const std::string replacement = string_at(spec, "replacement", "\u2581", where);
    if (replacement.empty()) throw UsageError(concat("\"replacement\" must not be empty (", where, ")"));
    const bool prefix = bool_at(spec, "add_prefix_space", true, where);
    const bool prefixed = string_at(spec, "prepend_scheme", prefix ? "always" : "never", where) != "never";
    return [=] { return std::make_unique<MetaspaceStep>(replacement, prefixed); };
  }
  if (type == "BPEDecoder") {
    const std::string suffix = string_at(spec, "suffix", "</w>", where);
    return [=] { return std::make_unique<BpeStep>(suffix); };
  }
  if (type == "Strip") {
    const std::string content = string_at(spec, "content", where);
    if (content.empty()) throw UsageError(concat("\"content\" must not be empty (", where, ")"));
    const size_t start = count_at(spec, "start", where), stop = count_at(spec, "stop", where);
    return [=] { return std::make_unique<StripStep>(content, start, stop); };
  }
  if (type == "CTC") {
    const std::string pad = string_at(spec, "pad_token", "<pad>", where);
    const std::string delimiter = string_at(spec, "word_delimiter_token", "|", where);
    const bool cleanup = bool_at(spec, "cleanup", true, where);
    return [=] { return std::make_unique<CtcStep>(pad, delimiter, cleanup); };
  }
  return {};
}

}  // namespace ondol::tokenization
