#include "train/objectives/label_evaluator.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ondol/metrics/classification.h>
#include <ondol/metrics/entities.h>
#include <ondol/train/objective.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

using OrderedJson = nlohmann::ordered_json;

double log_sum_exp(std::span<const float> scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (const float score : scores) sum += std::exp(static_cast<double>(score) - largest);
  return largest + std::log(sum);
}

int32_t best_of(std::span<const float> scores) {
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

/// -log sigmoid(x) for a label that holds, -log(1 - sigmoid(x)) for one that does not.
double binary_loss(double score, bool holds) {
  const double x = holds ? -score : score;
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

class LabelEvaluator : public Evaluator {
 public:
  explicit LabelEvaluator(const EvaluatorContext& context)
      : model_(context.model), data_(context.data), labels_(context.model.info().labels) {}

  bool has_losses() const override { return true; }

  std::vector<Tensor> results(const Batch& batch) override {
    const NoGrad no_grad;
    Tensor logits;
    for (const auto& [name, value] : model_.forward(model_input(batch).to(model_.device()), {})) {
      if (name == "logits") logits = value.value().to(Device{}).to(DType::f32).contiguous();
    }
    ONDOL_CHECK(logits.defined(), "the model has no logits");
    return {logits, batch.labels.contiguous()};
  }

  std::vector<double> add(const std::vector<Tensor>& results, std::span<const int64_t> samples) override {
    const Tensor& logits = results.at(0);
    Batch batch;
    batch.labels = results.at(1);
    double loss = 0.0;
    int64_t targets = 0;
    for (size_t row = 0; row < samples.size(); ++row) {
      const auto size = static_cast<size_t>(logits.numel() / logits.size(0));
      add_sample(samples[row], {logits.data<float>() + row * size, size}, batch, static_cast<int64_t>(row), loss,
                 targets);
    }
    return {targets > 0 ? loss / static_cast<double>(targets) : 0.0};
  }

 protected:
  virtual void add_sample(int64_t sample, std::span<const float> logits, const Batch& batch, int64_t row, double& loss,
                          int64_t& targets) = 0;

  size_t count() const { return labels_.size(); }
  const std::string& name_of(int32_t label) const { return labels_[static_cast<size_t>(label)]; }
  OrderedJson line_of(int64_t sample) const { return {{"place", data_.origin(sample).place}}; }

  Model& model_;
  const DataLoader& data_;
  const std::vector<std::string> labels_;
};

OrderedJson figures(int64_t hits, int64_t predicted, int64_t expected) {
  const auto share = [](int64_t part, int64_t all) {
    return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0.0;
  };
  return {{"precision", share(hits, predicted)},
          {"recall", share(hits, expected)},
          {"f1", share(2 * hits, predicted + expected)},
          {"predicted", predicted},
          {"expected", expected}};
}

/// Precision, recall and F1 of each label, from label numbers side by side.
OrderedJson label_figures(const std::vector<std::string>& labels, std::span<const int32_t> predicted,
                          std::span<const int32_t> expected) {
  OrderedJson out = OrderedJson::object();
  for (size_t label = 0; label < labels.size(); ++label) {
    int64_t hits = 0, found = 0, there = 0;
    for (size_t i = 0; i < predicted.size(); ++i) {
      const bool p = predicted[i] == static_cast<int32_t>(label), e = expected[i] == static_cast<int32_t>(label);
      hits += p && e;
      found += p;
      there += e;
    }
    out[labels[label]] = figures(hits, found, there);
  }
  return out;
}

class OneLabel final : public LabelEvaluator {
 public:
  using LabelEvaluator::LabelEvaluator;

  void add_sample(int64_t sample, std::span<const float> logits, const Batch& batch, int64_t row, double& loss,
                  int64_t& targets) override {
    const int32_t label = batch.labels.data<int32_t>()[row];
    if (label == kIgnoreIndex) return;
    const double sum = log_sum_exp(logits);
    loss += sum - static_cast<double>(logits[static_cast<size_t>(label)]);
    ++targets;
    Result& result = results_[sample];
    result.expected = label;
    result.predicted = best_of(logits);
    for (const float score : logits) result.scores.push_back(std::exp(static_cast<double>(score) - sum));
  }

  std::vector<Metric> metrics() override {
    for (const auto& [sample, result] : results_) {
      predicted_.push_back(result.predicted);
      expected_.push_back(result.expected);
    }
    if (predicted_.empty()) return {};
    const bool two = count() == 2;
    const metrics::F1Options f1{.average = two ? metrics::Average::binary : metrics::Average::macro};
    return {{"accuracy", metrics::accuracy(predicted_, expected_)},
            {two ? "f1" : "macro_f1", metrics::f1(predicted_, expected_, f1)},
            {"matthews_correlation", metrics::matthews_correlation(predicted_, expected_)}};
  }

  std::string report() const override {
    return OrderedJson{{"labels", label_figures(labels_, predicted_, expected_)}}.dump();
  }

  void write_predictions(const std::function<void(const std::string&)>& write) const override {
    for (const auto& [sample, result] : results_) {
      OrderedJson line = line_of(sample);
      line["label"] = name_of(result.expected);
      line["prediction"] = name_of(result.predicted);
      for (size_t i = 0; i < count(); ++i) line["scores"][labels_[i]] = result.scores[i];
      write(line.dump());
    }
  }

 private:
  struct Result {
    int32_t expected = 0, predicted = 0;
    std::vector<double> scores;
  };
  std::map<int64_t, Result> results_;  // by sample
  std::vector<int32_t> predicted_, expected_;
};

class SeveralLabels final : public LabelEvaluator {
 public:
  using LabelEvaluator::LabelEvaluator;

  void add_sample(int64_t sample, std::span<const float> logits, const Batch& batch, int64_t row, double& loss,
                  int64_t& targets) override {
    Result& result = results_[sample];
    for (size_t i = 0; i < count(); ++i) {
      const bool holds = batch.labels.data<float>()[static_cast<size_t>(row) * count() + i] > 0.5f;
      const double score = logits[i];
      loss += binary_loss(score, holds);
      ++targets;
      result.expected.push_back(holds);
      result.predicted.push_back(score >= 0.0);
      result.scores.push_back(1.0 / (1.0 + std::exp(-score)));
    }
  }

  std::vector<Metric> metrics() override {
    for (const auto& [sample, result] : results_) {
      predicted_.insert(predicted_.end(), result.predicted.begin(), result.predicted.end());
      expected_.insert(expected_.end(), result.expected.begin(), result.expected.end());
    }
    if (predicted_.empty()) return {};
    const auto labels = static_cast<int64_t>(count());
    return {{"micro_f1", metrics::multi_label_f1(predicted_, expected_, labels, metrics::Average::micro)},
            {"macro_f1", metrics::multi_label_f1(predicted_, expected_, labels, metrics::Average::macro)},
            {"subset_accuracy", metrics::subset_accuracy(predicted_, expected_, labels)}};
  }

  std::string report() const override {
    OrderedJson out = OrderedJson::object();
    for (size_t label = 0; label < count(); ++label) {
      int64_t hits = 0, found = 0, there = 0;
      for (size_t i = label; i < predicted_.size(); i += count()) {
        hits += predicted_[i] != 0 && expected_[i] != 0;
        found += predicted_[i] != 0;
        there += expected_[i] != 0;
      }
      out[labels_[label]] = figures(hits, found, there);
    }
    return OrderedJson{{"labels", out}}.dump();
  }

  void write_predictions(const std::function<void(const std::string&)>& write) const override {
    for (const auto& [sample, result] : results_) {
      OrderedJson line = line_of(sample);
      line["label"] = line["prediction"] = OrderedJson::array();
      for (size_t i = 0; i < count(); ++i) {
        if (result.expected[i] != 0) line["label"].push_back(labels_[i]);
        if (result.predicted[i] != 0) line["prediction"].push_back(labels_[i]);
        line["scores"][labels_[i]] = result.scores[i];
      }
      write(line.dump());
    }
  }

 private:
  struct Result {
    std::vector<uint8_t> expected, predicted;
    std::vector<double> scores;
  };
  std::map<int64_t, Result> results_;
  std::vector<uint8_t> predicted_, expected_;
};

class Values final : public LabelEvaluator {
 public:
  using LabelEvaluator::LabelEvaluator;

  void add_sample(int64_t sample, std::span<const float> logits, const Batch& batch, int64_t row, double& loss,
                  int64_t& targets) override {
    const double expected = batch.labels.data<float>()[row], predicted = logits[0];
    loss += (predicted - expected) * (predicted - expected);
    ++targets;
    results_[sample] = {expected, predicted};
  }

  std::vector<Metric> metrics() override {
    std::vector<double> predicted, expected;
    for (const auto& [sample, result] : results_) {
      expected.push_back(result.first);
      predicted.push_back(result.second);
    }
    if (predicted.empty()) return {};
    return {{"pearson", metrics::pearson(predicted, expected)},
            {"spearman", metrics::spearman(predicted, expected)},
            {"mean_squared_error", metrics::mean_squared_error(predicted, expected), false}};
  }

  void write_predictions(const std::function<void(const std::string&)>& write) const override {
    for (const auto& [sample, result] : results_) {
      OrderedJson line = line_of(sample);
      line["label"] = result.first;
      line["prediction"] = result.second;
      write(line.dump());
    }
  }

 private:
  std::map<int64_t, std::pair<double, double>> results_;  // expected, predicted
};

class TokenLabels final : public LabelEvaluator {
 public:
  using LabelEvaluator::LabelEvaluator;

  void add_sample(int64_t sample, std::span<const float> logits, const Batch& batch, int64_t row, double& loss,
                  int64_t& targets) override {
    Result& result = results_[sample];
    const auto length = static_cast<size_t>(batch.labels.size(1));
    for (size_t t = 0; t < length; ++t) {
      const int32_t label = batch.labels.data<int32_t>()[static_cast<size_t>(row) * length + t];
      if (label == kIgnoreIndex) continue;
      const std::span<const float> scores = logits.subspan(t * count(), count());
      loss += log_sum_exp(scores) - static_cast<double>(scores[static_cast<size_t>(label)]);
      ++targets;
      result.expected.push_back(label);
      result.predicted.push_back(best_of(scores));
    }
  }

  std::vector<Metric> metrics() override {
    for (const auto& [sample, result] : results_) {
      predicted_.insert(predicted_.end(), result.predicted.begin(), result.predicted.end());
      expected_.insert(expected_.end(), result.expected.begin(), result.expected.end());
      predicted_names_.push_back(names_of(result.predicted));
      expected_names_.push_back(names_of(result.expected));
    }
    if (predicted_.empty()) return {};
    const double accuracy = metrics::accuracy(predicted_, expected_);
    if (!has_entities()) {
      return {{"accuracy", accuracy},
              {"macro_f1", metrics::f1(predicted_, expected_, {.average = metrics::Average::macro})}};
    }
    const metrics::EntityScores scores = metrics::entity_scores(predicted_names_, expected_names_);
    return {{"f1", scores.f1}, {"precision", scores.precision}, {"recall", scores.recall}, {"accuracy", accuracy}};
  }

  std::string report() const override {
    OrderedJson out = {{"labels", label_figures(labels_, predicted_, expected_)}};
    if (!has_entities()) return out.dump();
    struct Counts {
      int64_t hits = 0, predicted = 0, expected = 0;
    };
    std::map<std::string, Counts> types;
    for (size_t s = 0; s < predicted_names_.size(); ++s) {
      const auto predicted = metrics::find_entities(predicted_names_[s]);
      for (const metrics::Entity& entity : metrics::find_entities(expected_names_[s])) {
        ++types[entity.type].expected;
        types[entity.type].hits += std::find(predicted.begin(), predicted.end(), entity) != predicted.end();
      }
      for (const metrics::Entity& entity : predicted) ++types[entity.type].predicted;
    }
    out["entities"] = OrderedJson::object();
    for (const auto& [type, counts] : types) {
      out["entities"][type] = figures(counts.hits, counts.predicted, counts.expected);
    }
    return out.dump();
  }

  void write_predictions(const std::function<void(const std::string&)>& write) const override {
    for (const auto& [sample, result] : results_) {
      OrderedJson line = line_of(sample);
      line["tags"] = names_of(result.expected);
      line["predictions"] = names_of(result.predicted);
      write(line.dump());
    }
  }

 private:
  bool has_entities() const {
    return std::any_of(labels_.begin(), labels_.end(), [](const std::string& name) {
      return name.size() > 1 && name[1] == '-' && std::string("BIES").find(name[0]) != std::string::npos;
    });
  }
  std::vector<std::string> names_of(const std::vector<int32_t>& labels) const {
    std::vector<std::string> names;
    for (const int32_t label : labels) names.push_back(name_of(label));
    return names;
  }

  struct Result {
    std::vector<int32_t> expected, predicted;  // of the words that the model saw
  };
  std::map<int64_t, Result> results_;
  std::vector<int32_t> predicted_, expected_;
  std::vector<std::vector<std::string>> predicted_names_, expected_names_;
};

}  // namespace

std::unique_ptr<Evaluator> make_label_evaluator(const EvaluatorContext& context) {
  const ModelInfo& info = context.model.info();
  if (info.head == Head::token_classification) return std::make_unique<TokenLabels>(context);
  if (info.regression) return std::make_unique<Values>(context);
  if (info.multi_label) return std::make_unique<SeveralLabels>(context);
  return std::make_unique<OneLabel>(context);
}

}  // namespace ondol
