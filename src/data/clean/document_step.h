// A step that looks at one document at a time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ondol/data/clean.h>

namespace ondol::clean {

/// What a step did to a document.
struct StepResult {
  RuleResult rule;
  bool changed = false;
  std::vector<std::pair<const char*, int64_t>> counts;  // added to StepReport::counts
  std::string seen;                                     // counted there too, once
};

class DocumentStep {
 public:
  virtual ~DocumentStep() = default;
  /// May rewrite the text. Called from several threads at once.
  virtual StepResult apply(std::string& text) const = 0;
};

/// Null for a deduplication, which has to see all documents. Throws UsageError for options that cannot work.
std::unique_ptr<DocumentStep> make_document_step(const CleanStep& step);

}  // namespace ondol::clean
