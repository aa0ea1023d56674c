#include "train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <ondol/base/file.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

/// The means of the terms of a loss over several batches.
class LossSum {
 public:
  void add(const std::vector<double>& means, const std::vector<int64_t>& targets) {
    sums_.resize(targets.size());
    counts_.resize(targets.size());
    for (size_t i = 0; i < targets.size(); ++i) {
      sums_[i] += means.at(i) * static_cast<double>(targets[i]);
      counts_[i] += targets[i];
    }
  }

  /// Without a target there is no loss; 0 would look like the best one.
  void put(EvaluationMetrics& metrics) const {
    metrics.loss = std::numeric_limits<double>::quiet_NaN();
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (counts_[i] == 0) continue;
      const double mean = sums_[i] / static_cast<double>(counts_[i]);
      metrics.loss = metrics.targets == 0 ? mean : metrics.loss + mean;
      metrics.targets += counts_[i];
    }
  }

 private:
  std::vector<double> sums_;
  std::vector<int64_t> counts_;
};

}  // namespace

Evaluation evaluate(const EvaluationInputs& inputs, const EvaluationSizes& sizes) {
  const auto start = std::chrono::steady_clock::now();
  DataLoader& loader = inputs.loader;
  const Objective& objective = inputs.objective;
  Model& model = inputs.model;
  const int64_t all = loader.samples_per_epoch(), count = sizes.samples > 0 ? std::min(sizes.samples, all) : all;
  Evaluation result;
  result.evaluator = objective.evaluator({.model = model, .tokenizer = inputs.tokenizer, .data = loader});
  LossSum loss;
  const ValueShards::Whole whole(result.evaluator != nullptr ? inputs.values : nullptr);
  const ValueShards::Use use(result.evaluator == nullptr ? inputs.values : nullptr);
  if (result.evaluator != nullptr) {
    const std::vector<int64_t> order = loader.by_length(count);
    for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(sizes.micro_batch_size)) {
      const std::span<const int64_t> samples = std::span<const int64_t>(order).subspan(
          begin, std::min(static_cast<size_t>(sizes.micro_batch_size), order.size() - begin));
      const Batch batch = objective.prepare(loader.at(samples), inputs.context);
      std::vector<double> means = result.evaluator->add(batch, samples);
      if (means.empty()) means = mean_losses(model, objective, batch, sizes.micro_batch_size);
      loss.add(means, objective.count_targets(batch, model));
    }
    result.metrics.metrics = result.evaluator->metrics();
  } else {
    loader.reset();
    for (int64_t left = count; left > 0;) {
      const Batch batch = objective.prepare(loader.next(std::min(left, sizes.batch_size)), inputs.context);
      left -= batch.size();
      loss.add(mean_losses(model, objective, batch, sizes.micro_batch_size, inputs.ranks, inputs.values),
               objective.count_targets(batch, model));
    }
  }
  loss.put(result.metrics);
  result.metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

Evaluation evaluate(RunData& data, Model& model, const EvaluationSizes& sizes, const Ranks& ranks,
                    ValueShards* values) {
  return evaluate({.objective = data.objective(),
                   .loader = *data.validation(),
                   .model = model,
                   .tokenizer = data.tokenizer(),
                   .context = data.objective_context(0, false),
                   .ranks = ranks,
                   .values = values},
                  sizes);
}

void write_evaluation(const std::string& directory, const Evaluation& evaluation) {
  if (evaluation.evaluator == nullptr) return;
  AtomicFile predictions(directory + "/predictions.jsonl");
  evaluation.evaluator->write_predictions([&](const std::string& line) { predictions.write(line + "\n"); });
  predictions.commit();
  nlohmann::ordered_json report = {{"step", evaluation.metrics.step}, {"loss", evaluation.metrics.loss}};
  for (const Metric& metric : evaluation.metrics.metrics) report[metric.name] = metric.value;
  report.update(nlohmann::ordered_json::parse(evaluation.evaluator->report()));
  write_file_atomic(directory + "/report.json", report.dump(2) + "\n");
}

}  // namespace ondol
