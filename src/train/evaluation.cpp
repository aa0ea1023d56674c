#include "train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
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

/// What a rank tells the others of a batch.
struct Measured {
  std::vector<Tensor> results;
  std::vector<double> means;
  std::vector<int64_t> targets;
};

std::string packed(const Measured& measured) {
  std::string bytes;
  const auto put = [&bytes](const Tensor& tensor) {
    std::vector<int64_t> head = {static_cast<int64_t>(tensor.dtype()), static_cast<int64_t>(tensor.ndim())};
    for (int d = 0; d < tensor.ndim(); ++d) head.push_back(tensor.size(d));
    bytes.append(reinterpret_cast<const char*>(head.data()), head.size() * sizeof(int64_t));
    bytes.append(static_cast<const char*>(tensor.raw()),
                 static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype()));
  };
  put(Tensor::from_vector(measured.means, {static_cast<int64_t>(measured.means.size())}));
  put(Tensor::from_vector(measured.targets, {static_cast<int64_t>(measured.targets.size())}));
  for (const Tensor& tensor : measured.results) put(tensor);
  return bytes;
}

Measured unpacked(const std::string& bytes) {
  std::vector<Tensor> tensors;
  for (size_t place = 0; place < bytes.size();) {
    const auto take = [&](void* target, size_t size) {
      ONDOL_CHECK(bytes.size() - place >= size, "the results of a rank are cut short (evaluation)");
      if (size > 0) std::memcpy(target, bytes.data() + place, size);
      place += size;
    };
    int64_t head[2] = {};
    take(head, sizeof(head));
    std::vector<int64_t> shape(static_cast<size_t>(head[1]));
    take(shape.data(), shape.size() * sizeof(int64_t));
    const Tensor tensor = Tensor::empty(Shape(std::span<const int64_t>(shape)), static_cast<DType>(head[0]));
    take(tensor.raw(), static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype()));
    tensors.push_back(tensor);
  }
  ONDOL_CHECK(tensors.size() >= 2, "the results of a rank are cut short (evaluation)");
  return {{tensors.begin() + 2, tensors.end()}, tensors[0].to_vector<double>(), tensors[1].to_vector<int64_t>()};
}

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
    Evaluator& evaluator = *result.evaluator;
    const std::vector<int64_t> order = loader.by_length(count);
    const Ranks& ranks = inputs.ranks;
    const auto rows = static_cast<size_t>(sizes.micro_batch_size), round = static_cast<size_t>(ranks.size());
    const auto samples_of = [&](size_t rank, size_t begin) {
      begin = std::min(begin + rank * rows, order.size());
      return std::span<const int64_t>(order).subspan(begin, std::min(rows, order.size() - begin));
    };
    for (size_t begin = 0; begin < order.size(); begin += round * rows) {
      std::string own;
      if (const auto samples = samples_of(static_cast<size_t>(ranks.rank()), begin); !samples.empty()) {
        const Batch batch = objective.prepare(loader.at(samples), inputs.context);
        Measured measured{evaluator.results(batch), {}, objective.count_targets(batch, model)};
        if (!evaluator.has_losses()) measured.means = mean_losses(model, objective, batch, sizes.micro_batch_size);
        own = packed(measured);
      }
      const std::vector<std::string> told = ranks.gather(own);
      for (size_t rank = 0; rank < round; ++rank) {
        const std::span<const int64_t> samples = samples_of(rank, begin);
        if (samples.empty()) break;
        Measured measured = unpacked(told[rank]);
        const std::vector<double> means = evaluator.add(measured.results, samples);
        loss.add(evaluator.has_losses() ? means : measured.means, measured.targets);
      }
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
