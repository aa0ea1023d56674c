// What an objective measures of validation data, besides its loss.
//
//   auto evaluator = objective.evaluator({.model = model, .tokenizer = &tokenizer, .data = validation});
//   for (...) evaluator->add(evaluator->results(batch), samples);      // every sample once, in any order
//   for (const Metric& metric : evaluator->metrics()) ...
//   evaluator->write_predictions([&](const std::string& line) { file.write(line + "\n"); });
//
// The trainer makes one for each evaluation and gives it all of the data that are evaluated. Of several processes each
// lets the model work on its share of the batches; all add the results of all, so that they measure the same.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <ondol/data/data_loader.h>
#include <ondol/models/model.h>

namespace ondol {

class Tokenizer;

struct Metric {
  std::string name;  // "accuracy"
  double value = 0.0;
  bool higher_is_better = true;
};

struct EvaluatorContext {
  Model& model;
  const Tokenizer* tokenizer = nullptr;
  const DataLoader& data;  // origin() says where a sample comes from and what its encoder has kept
};

class Evaluator {
 public:
  virtual ~Evaluator() = default;

  /// What the model makes of a prepared batch on the host: contiguous tensors on the host, with what else of the batch
  /// add() needs. There is no tape.
  virtual std::vector<Tensor> results(const Batch& batch) = 0;
  /// Takes results; samples[row] is the number of a row's sample (DataLoader::at). Returns the terms of the loss, each
  /// a mean over its targets in the batch, if has_losses().
  virtual std::vector<double> add(const std::vector<Tensor>& results, std::span<const int64_t> samples) = 0;
  /// Otherwise they are computed by Objective::losses.
  virtual bool has_losses() const { return false; }

  /// Over everything that was added; the first is what the best model is chosen by, unless evaluation.metric says
  /// otherwise. Called once, before the next two.
  virtual std::vector<Metric> metrics() = 0;
  /// More about the metrics (figures of each label), a JSON object.
  virtual std::string report() const { return "{}"; }
  /// One JSON object a line, in the order of the samples.
  virtual void write_predictions(const std::function<void(const std::string& line)>& write) const = 0;
};

}  // namespace ondol
