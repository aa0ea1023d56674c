#include "train/objectives/seq2seq_evaluator.h"

#include <map>

#include <ondol/generate/generate.h>
#include <ondol/metrics/summarization.h>
#include <ondol/metrics/translation.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

using OrderedJson = nlohmann::ordered_json;

class Seq2SeqEvaluator final : public Evaluator {
 public:
  Seq2SeqEvaluator(const Seq2SeqEvaluation& settings, const EvaluatorContext& context)
      : settings_(settings), model_(context.model), tokenizer_(*context.tokenizer), data_(context.data) {}

  /// The texts of sources and predictions, as JSON.
  std::vector<Tensor> results(const Batch& batch) override {
    const std::vector<std::vector<int32_t>> sources = sources_of(batch);
    GenerateOptions options;
    options.max_new_tokens = settings_.max_new_tokens;
    options.num_beams = settings_.beams;
    options.length_penalty = settings_.length_penalty;
    options.sampling.temperature = 0.0f;
    std::vector<GenerateResult> generated;
    if (settings_.beams == 1) {
      generated = generate_ids(model_, sources, options, &tokenizer_);
    } else {  // beams take one source at a time
      for (const std::vector<int32_t>& source : sources) {
        generated.push_back(generate_ids(model_, {source}, options, &tokenizer_).front());
      }
    }
    Json texts = Json::array();
    for (size_t row = 0; row < sources.size(); ++row) {
      texts.push_back({tokenizer_.decode(sources[row], true), generated[row].text});
    }
    const std::string text = texts.dump(-1, ' ', false, Json::error_handler_t::replace);
    return {Tensor::from_vector(std::vector<uint8_t>(text.begin(), text.end()), {static_cast<int64_t>(text.size())})};
  }

  std::vector<double> add(const std::vector<Tensor>& results, std::span<const int64_t> samples) override {
    const std::vector<uint8_t> text = results.at(0).to_vector<uint8_t>();
    const Json texts = Json::parse(text.begin(), text.end());
    for (size_t row = 0; row < samples.size(); ++row) {
      const Json references = Json::parse(data_.origin(samples[row]).reference);
      pairs_[samples[row]] = {texts.at(row).at(0).get<std::string>(), texts.at(row).at(1).get<std::string>(),
                              references.get<std::vector<std::string>>()};
    }
    return {};
  }

  std::vector<Metric> metrics() override {
    std::vector<std::string> texts;
    std::vector<std::vector<std::string>> references;
    for (const auto& [sample, pair] : pairs_) {
      texts.push_back(pair.prediction);
      references.push_back(pair.references);
    }
    std::vector<Metric> metrics;
    for (const std::string& name : settings_.metrics) {
      if (name == "bleu") metrics.push_back({"bleu", metrics::bleu(texts, references).score});
      if (name == "chrf") metrics.push_back({"chrf", metrics::chrf(texts, references)});
      if (name != "rouge") continue;
      const metrics::RougeScores rouge = metrics::rouge(texts, references, {.all_scripts = true});
      metrics.push_back({"rouge1", 100.0 * rouge.rouge1.f1});
      metrics.push_back({"rouge2", 100.0 * rouge.rouge2.f1});
      metrics.push_back({"rougeL", 100.0 * rouge.rouge_l.f1});
    }
    return metrics;
  }

  void write_predictions(const std::function<void(const std::string& line)>& write) const override {
    for (const auto& [sample, pair] : pairs_) {
      write(OrderedJson{{"source", pair.source}, {"prediction", pair.prediction}, {"references", pair.references}}
                .dump());
    }
  }

 private:
  struct Pair {
    std::string source, prediction;
    std::vector<std::string> references;
  };

  /// The ids of each row without padding.
  static std::vector<std::vector<int32_t>> sources_of(const Batch& batch) {
    const Tensor ids = batch.input_ids.contiguous(), mask = batch.attention_mask;
    const int64_t width = ids.size(1);
    std::vector<std::vector<int32_t>> sources(static_cast<size_t>(ids.size(0)));
    for (int64_t i = 0; i < ids.numel(); ++i) {
      if (mask.defined() && mask.data<uint8_t>()[i] == 0) continue;
      sources[static_cast<size_t>(i / width)].push_back(ids.data<int32_t>()[i]);
    }
    return sources;
  }

  Seq2SeqEvaluation settings_;
  Model& model_;
  Tokenizer tokenizer_;
  const DataLoader& data_;
  std::map<int64_t, Pair> pairs_;  // by sample
};

}  // namespace

std::unique_ptr<Evaluator> make_seq2seq_evaluator(const Seq2SeqEvaluation& settings, const EvaluatorContext& context) {
  return std::make_unique<Seq2SeqEvaluator>(settings, context);
}

}  // namespace ondol
