#include "data/clean/document_step.h"

#include <algorithm>

#include <ondol/base/error.h>
#include <ondol/data/language.h>

namespace ondol::clean {

namespace {

class LanguageStep : public DocumentStep {
 public:
  explicit LanguageStep(const LanguageOptions& options) : options_(options) {
    if (options_.languages.empty()) throw UsageError("language: no language to keep was named");
    const std::vector<std::string> known = known_languages();
    for (const std::string& code : options_.languages) {
      if (std::find(known.begin(), known.end(), code) != known.end()) continue;
      std::string list;
      for (const std::string& other : known) list += (list.empty() ? "" : " ") + other;
      throw UsageError("language: unknown code \"" + code + "\"", "known are " + list);
    }
  }

  StepResult apply(std::string& text) const override {
    const LanguageGuess guess = identify_language(text);
    StepResult result;
    result.seen = guess.code;
    const auto& wanted = options_.languages;
    const std::string detail = concat("score ", static_cast<int>(guess.score * 100) / 100.0);
    if (std::find(wanted.begin(), wanted.end(), guess.code) == wanted.end()) {
      result.rule = {guess.code, detail};
    } else if (guess.score < options_.min_score) {
      result.rule = {"unsure", guess.code + ", " + detail};
    }
    return result;
  }

 private:
  LanguageOptions options_;
};

class GopherQualityStep : public DocumentStep {
 public:
  explicit GopherQualityStep(const GopherQualityOptions& options) : options_(options) {}
  StepResult apply(std::string& text) const override { return {.rule = check_gopher_quality(text, options_)}; }

 private:
  GopherQualityOptions options_;
};

class GopherRepetitionStep : public DocumentStep {
 public:
  explicit GopherRepetitionStep(const GopherRepetitionOptions& options) : options_(options) {}
  StepResult apply(std::string& text) const override { return {.rule = check_gopher_repetition(text, options_)}; }

 private:
  GopherRepetitionOptions options_;
};

class C4Step : public DocumentStep {
 public:
  explicit C4Step(const C4Options& options) : rules_(options) {}
  StepResult apply(std::string& text) const override {
    C4Changes changes;
    StepResult result;
    result.rule = rules_.apply(text, &changes);
    if (!result.rule.keep() || !changes.any()) return result;
    result.changed = true;
    result.counts = {{"lines_without_terminal_punctuation", changes.terminal_punctuation},
                     {"short_lines", changes.short_line},
                     {"lines_with_a_long_word", changes.long_word},
                     {"javascript_lines", changes.javascript},
                     {"policy_lines", changes.policy},
                     {"lines_with_citations", changes.citations}};
    return result;
  }

 private:
  C4Rules rules_;
};

class RedactionStep : public DocumentStep {
 public:
  explicit RedactionStep(const RedactionOptions& options) : options_(options) {}
  StepResult apply(std::string& text) const override {
    RedactionCounts counts;
    redact(text, options_, counts);
    if (counts.total() == 0) return {};
    return {.rule = {},
            .changed = true,
            .counts = {{"email", counts.email},
                       {"ip", counts.ip},
                       {"phone", counts.phone},
                       {"card", counts.card},
                       {"resident", counts.resident},
                       {"iban", counts.iban}}};
  }

 private:
  RedactionOptions options_;
};

class DecontaminationStep : public DocumentStep {
 public:
  explicit DecontaminationStep(const DecontaminationOptions& options) : index_(options) {}
  StepResult apply(std::string& text) const override {
    StepResult result;
    result.rule = index_.apply(text, &result.changed);
    return result;
  }

 private:
  BenchmarkIndex index_;
};

}  // namespace

std::unique_ptr<DocumentStep> make_document_step(const CleanStep& step) {
  struct Maker {
    std::unique_ptr<DocumentStep> operator()(const LanguageOptions& o) const {
      return std::make_unique<LanguageStep>(o);
    }
    std::unique_ptr<DocumentStep> operator()(const GopherQualityOptions& o) const {
      return std::make_unique<GopherQualityStep>(o);
    }
    std::unique_ptr<DocumentStep> operator()(const GopherRepetitionOptions& o) const {
      return std::make_unique<GopherRepetitionStep>(o);
    }
    std::unique_ptr<DocumentStep> operator()(const C4Options& o) const { return std::make_unique<C4Step>(o); }
    std::unique_ptr<DocumentStep> operator()(const RedactionOptions& o) const {
      return std::make_unique<RedactionStep>(o);
    }
    std::unique_ptr<DocumentStep> operator()(const DecontaminationOptions& o) const {
      return std::make_unique<DecontaminationStep>(o);
    }
    std::unique_ptr<DocumentStep> operator()(const ExactDedupOptions&) const { return nullptr; }
    std::unique_ptr<DocumentStep> operator()(const MinHashDedupOptions&) const { return nullptr; }
  };
  return std::visit(Maker{}, step);
}

}  // namespace ondol::clean
