#include "train/run_log.h"

#include <cmath>

#include <nlohmann/json.hpp>

namespace ondol {

RunLog::RunLog(const std::string& directory, int64_t done, bool tensorboard) : metrics_(directory, done) {
  if (tensorboard) events_ = std::make_unique<EventWriter>(directory, done + 1);
}

void RunLog::step(const StepMetrics& metrics) {
  metrics_.append(metrics_line(metrics));
  if (events_ == nullptr) return;
  events_->scalar("loss", metrics.step, metrics.loss);
  for (const auto& [name, value] : metrics.losses) events_->scalar("loss/" + name, metrics.step, value);
  events_->scalar("grad_norm", metrics.step, metrics.grad_norm);
  events_->scalar("learning_rate", metrics.step, metrics.learning_rate);
  events_->scalar("tokens_per_second", metrics.step, metrics.tokens_per_second);
  if (metrics.mfu) events_->scalar("mfu", metrics.step, *metrics.mfu);
  events_->flush();
}

void RunLog::evaluation(const EvaluationMetrics& metrics) {
  metrics_.append(metrics_line(metrics));
  if (events_ == nullptr) return;
  events_->scalar("eval_loss", metrics.step, metrics.loss);
  for (const Metric& metric : metrics.metrics) events_->scalar("eval_" + metric.name, metrics.step, metric.value);
  events_->flush();
}

void RunLog::sync() { metrics_.sync(); }

namespace {

/// Clocks are no finer, and lines of many ranks no longer than they need to be.
double rounded(double value) { return std::round(value * 1e6) / 1e6; }

nlohmann::ordered_json ranks_json(const std::vector<RankMetrics>& ranks) {
  nlohmann::ordered_json json;
  for (const RankMetrics& rank : ranks) {
    json["tokens_per_second"].push_back(std::round(rank.tokens_per_second));
    json["seconds"].push_back(rounded(rank.seconds));
    json["communication_seconds"].push_back(rounded(rank.communication_seconds));
    json["exposed_seconds"].push_back(rounded(rank.exposed_seconds));
    json["hidden_seconds"].push_back(rounded(rank.hidden_seconds));
    json["late_seconds"].push_back(rounded(rank.late_seconds));
  }
  if (const std::optional<size_t> late = straggler(ranks)) json["straggler"] = *late;
  return json;
}

}  // namespace

std::string metrics_line(const StepMetrics& metrics) {
  nlohmann::ordered_json line;
  line["step"] = metrics.step;
  line["loss"] = metrics.loss;
  for (const auto& [name, value] : metrics.losses) line["losses"][name] = value;
  line["grad_norm"] = metrics.grad_norm;
  line["learning_rate"] = metrics.learning_rate;
  line["tokens"] = metrics.tokens;
  line["samples"] = metrics.samples;
  line["seconds"] = metrics.seconds;
  line["data_seconds"] = metrics.data_seconds;
  if (metrics.checkpoint_seconds > 0.0) line["checkpoint_seconds"] = rounded(metrics.checkpoint_seconds);
  line["tokens_per_second"] = metrics.tokens_per_second;
  line["mfu"] = nullptr;
  if (metrics.mfu) line["mfu"] = *metrics.mfu;
  if (metrics.skipped) line["skipped"] = true;
  if (metrics.no_targets) line["targets"] = 0;
  if (!metrics.ranks.empty()) line["ranks"] = ranks_json(metrics.ranks);
  return line.dump();
}

std::string metrics_line(const EvaluationMetrics& metrics) {
  nlohmann::ordered_json line;
  line["step"] = metrics.step;
  line["eval_loss"] = metrics.loss;
  for (const Metric& metric : metrics.metrics) line["eval_" + metric.name] = metric.value;
  line["eval_targets"] = metrics.targets;
  line["eval_seconds"] = metrics.seconds;
  return line.dump();
}

}  // namespace ondol
