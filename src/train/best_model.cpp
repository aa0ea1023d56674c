#include "train/best_model.h"

#include <cmath>
#include <filesystem>

namespace ondol {

namespace {

namespace fs = std::filesystem;
constexpr const char* kPrefix = "best-";

/// The metric to go by: the configured one, else the objective's first, else the loss.
Metric chosen_metric(const EvaluationMetrics& metrics, const std::string& name) {
  const Metric loss{"loss", metrics.loss, false};
  if (name == "loss" || (name.empty() && metrics.metrics.empty())) return loss;
  if (name.empty()) return metrics.metrics.front();
  std::string known = "loss";
  for (const Metric& metric : metrics.metrics) {
    if (metric.name == name) return metric;
    known += ", " + metric.name;
  }
  throw UsageError(concat("evaluation.metric \"", name, "\" is not measured"), "measured are " + known);
}

}  // namespace

bool BestModel::offer(const EvaluationMetrics& metrics) {
  const Metric metric = chosen_metric(metrics, settings_.metric);
  const bool first = state_.best_step == 0;
  const bool better =
      std::isfinite(metric.value) &&
      (first || (metric.higher_is_better ? metric.value > state_.best_value : metric.value < state_.best_value));
  if (!better) {
    ++state_.evaluations_since_best;
    return false;
  }
  state_.best_step = metrics.step;
  state_.best_value = metric.value;
  state_.evaluations_since_best = 0;
  return true;
}

std::string BestModel::directory() const {
  return state_.best_step == 0 ? "" : concat(run_directory_, "/", kPrefix, state_.best_step);
}

void BestModel::keep(const Model& model, const Tokenizer* tokenizer, const Evaluation& evaluation, const Ranks& ranks,
                     const HeldParts& held) const {
  write_model_directory(directory(), model, tokenizer, ranks.communicator(), held);
  if (ranks.first()) write_evaluation(directory(), evaluation);
}

void BestModel::forget_others() const {
  const std::string kept = fs::path(directory()).filename().string();
  for (const auto& entry : fs::directory_iterator(run_directory_)) {
    const std::string name = entry.path().filename().string();
    std::error_code ignored;
    if (name.starts_with(kPrefix) && name != kept) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace ondol
