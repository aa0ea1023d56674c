#include "train/objectives/question_evaluator.h"

#include <map>

#include <ondol/metrics/question_answering.h>
#include <ondol/train/objective.h>

#include "predict/text_batches.h"

namespace ondol {

namespace {

using OrderedJson = nlohmann::ordered_json;

metrics::AnswerRules rules_of(const std::string& name) {
  if (name == "korquad") return metrics::AnswerRules::korquad;
  return name == "squad2" ? metrics::AnswerRules::squad2 : metrics::AnswerRules::squad;
}

/// The places of a window's tokens in the context.
std::vector<TextRange> offsets_of(const Json& reference) {
  std::vector<TextRange> offsets(reference["first"].get<size_t>());
  const Json& ends = reference["ends"];
  for (size_t i = 0; i + 1 < ends.size(); i += 2) offsets.push_back({ends[i].get<size_t>(), ends[i + 1].get<size_t>()});
  offsets.resize(reference["tokens"].get<size_t>());
  return offsets;
}

class QuestionEvaluator final : public Evaluator {
 public:
  QuestionEvaluator(const QuestionSettings& settings, const EvaluatorContext& context)
      : settings_(settings), model_(context.model), data_(context.data) {}

  std::vector<Tensor> results(const Batch& batch) override {
    const NoGrad no_grad;
    const NamedOutputs outputs = model_.forward(model_input(batch).to(model_.device()), {});
    return {host_output(outputs, "start_logits"), host_output(outputs, "end_logits")};
  }

  std::vector<double> add(const std::vector<Tensor>& results, std::span<const int64_t> samples) override {
    const Tensor &starts = results.at(0), &ends = results.at(1);
    const int64_t width = starts.size(1);
    for (size_t row = 0; row < samples.size(); ++row) {
      const SampleOrigin origin = data_.origin(samples[row]);
      const Json reference = Json::parse(origin.reference);
      Question& question = questions_.try_emplace(origin.record, Question(settings_)).first->second;
      if (reference.contains("context")) {
        question.id = reference["id"];
        question.context = reference["context"];
        question.answers = reference["answers"].get<std::vector<std::string>>();
      }
      const std::vector<TextRange> offsets = offsets_of(reference);
      const int64_t begin = static_cast<int64_t>(row) * width;
      question.search.add(offsets, {starts.data<float>() + begin, offsets.size()},
                          {ends.data<float>() + begin, offsets.size()});
    }
    return {};
  }

  std::vector<Metric> metrics() override {
    std::vector<std::string> predicted;
    std::vector<std::vector<std::string>> expected;
    for (auto& [record, question] : questions_) {
      question.found = question.search.best();
      const TextRange range = choose_answer(question.found, settings_.no_answer, settings_.null_threshold);
      question.prediction = question.context.substr(range.begin, range.end - range.begin);
      predicted.push_back(question.prediction);
      expected.push_back(question.answers);
    }
    const metrics::AnswerScores scores = metrics::answer_scores(predicted, expected, rules_of(settings_.rules));
    std::vector<Metric> metrics = {{"f1", scores.f1}, {"exact_match", scores.exact_match}};
    if (settings_.no_answer) {
      metrics.push_back({"answerable_f1", scores.answerable_f1});
      metrics.push_back({"answerable_exact_match", scores.answerable_exact_match});
      metrics.push_back({"unanswerable_exact_match", scores.unanswerable_exact_match});
    }
    return metrics;
  }

  void write_predictions(const std::function<void(const std::string& line)>& write) const override {
    for (const auto& [record, question] : questions_) {
      OrderedJson line = {{"id", question.id}, {"prediction", question.prediction}, {"answers", question.answers}};
      for (const AnswerSpan& span : question.found.spans) {
        const std::string text = question.context.substr(span.range.begin, span.range.end - span.range.begin);
        line["n_best"].push_back({{"text", text},
                                  {"probability", span.probability},
                                  {"start_logit", span.start_score},
                                  {"end_logit", span.end_score}});
      }
      write(line.dump());
    }
  }

 private:
  struct Question {
    explicit Question(const QuestionSettings& settings)
        : search({.best_count = settings.best_count,
                  .max_answer_tokens = settings.max_answer_length,
                  .no_answer = settings.no_answer}) {}
    std::string id, context, prediction;
    std::vector<std::string> answers;
    AnswerSearch search;
    AnswerCandidates found;
  };

  QuestionSettings settings_;
  Model& model_;
  const DataLoader& data_;
  std::map<int64_t, Question> questions_;  // by record
};

}  // namespace

std::string window_reference(const QuestionRecord& example, const AnswerWindow& window, bool first) {
  size_t begin = 0;
  while (begin < window.offsets.size() && window.offsets[begin] == TextRange{}) ++begin;
  Json reference = {{"tokens", window.offsets.size()}, {"first", begin}, {"ends", Json::array()}};
  for (size_t t = begin; t < window.offsets.size(); ++t) {
    reference["ends"].push_back(window.offsets[t].begin);
    reference["ends"].push_back(window.offsets[t].end);
  }
  if (first) {
    reference["id"] = example.id;
    reference["context"] = example.context;
    reference["answers"] = example.answers;
  }
  return reference.dump();
}

std::unique_ptr<Evaluator> make_question_evaluator(const QuestionSettings& settings, const EvaluatorContext& context) {
  return std::make_unique<QuestionEvaluator>(settings, context);
}

}  // namespace ondol
