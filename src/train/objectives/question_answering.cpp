// Fine-tuning for extractive question answering (Devlin et al. 2019): the first and the last token of the answer in
// each window of the context, the first token of the window where the answer is not in it.
#include <ondol/data/documents.h>

#include "train/objectives/encoder_inputs.h"
#include "train/objectives/objectives.h"
#include "train/objectives/question_evaluator.h"

namespace ondol {

namespace {

class QuestionEncoder final : public RecordEncoder {
 public:
  QuestionEncoder(const QuestionSettings& settings, const RecordContext& context)
      : settings_(settings),
        inputs_(context, "question_answering"),
        tokenizer_(*context.tokenizer),
        evaluation_(context.evaluation) {}

  std::vector<SampleColumn> columns() const override {
    std::vector<SampleColumn> columns = inputs_.columns();
    columns.push_back({.name = "start_positions", .kind = SampleColumn::scalar});
    columns.push_back({.name = "end_positions", .kind = SampleColumn::scalar});
    return columns;
  }

  uint64_t fingerprint() const override {
    uint64_t value = inputs_.fingerprint();
    for (const int64_t setting : {settings_.stride, settings_.max_question_length, int64_t{settings_.no_answer},
                                  int64_t{settings_.missing_answer == "drop"}}) {
      value = mix_fingerprint(value, static_cast<uint64_t>(setting));
    }
    return value;
  }

  std::vector<std::string> fields() const override { return question_fields(); }

  std::vector<Json> records_of(const Json& document, const std::string& file) const override {
    return squad_records(document, file);
  }

  void encode(const Record& record, EncodedRecord& out) const override {
    const std::optional<QuestionRecord> example = read_question(record, settings_.missing_answer == "drop");
    if (!example) return;
    if (example->answers.empty() && !settings_.no_answer) {
      record.fail("the question has no answer", "set objective.no_answer to true when some have none");
    }
    for (AnswerWindow& window : windows_of(*example)) {
      const TokenSpan span = example->answers.empty() ? TokenSpan{} : tokens_of_answer(window, example->answer);
      EncodedSample sample;
      if (evaluation_) sample.reference = window_reference(*example, window, out.samples.empty());
      sample.values = inputs_.values({.ids = std::move(window.ids), .type_ids = std::move(window.type_ids)});
      sample.values.emplace_back(std::vector<int32_t>{span.first});
      sample.values.emplace_back(std::vector<int32_t>{span.last});
      out.samples.push_back(std::move(sample));
    }
  }

 private:
  std::vector<AnswerWindow> windows_of(const QuestionRecord& example) const {
    return answer_windows(tokenizer_.encode_detailed(example.question, example.context),
                          {.max_tokens = inputs_.max_length(),
                           .stride = settings_.stride,
                           .max_question_tokens = settings_.max_question_length});
  }

  QuestionSettings settings_;
  EncoderInputs inputs_;
  Tokenizer tokenizer_;
  bool evaluation_;
};

class QuestionAnswering final : public Objective {
 public:
  explicit QuestionAnswering(const JsonReader& section) {
    settings_.stride = section.get<int64_t>("stride", settings_.stride, at_least(0));
    settings_.max_question_length =
        section.get<int64_t>("max_question_length", settings_.max_question_length, at_least(1));
    settings_.best_count = section.get<int64_t>("best_count", settings_.best_count, between(1, 1000));
    settings_.max_answer_length = section.get<int64_t>("max_answer_length", settings_.max_answer_length, at_least(1));
    settings_.no_answer = section.get("no_answer", settings_.no_answer);
    settings_.null_threshold = section.get("null_threshold", settings_.null_threshold);
    settings_.missing_answer = section.get_enum("missing_answer", settings_.missing_answer, {"error", "drop"});
    settings_.rules =
        section.get_enum("rules", settings_.no_answer ? "squad2" : "squad", {"squad", "squad2", "korquad"});
    if (settings_.no_answer && settings_.rules != "squad2") {
      section.fail("rules", concat("\"", settings_.rules, "\" knows no questions without an answer (no_answer)"));
    }
  }

  std::string settings() const override {
    return Json{{"type", "question_answering"},
                {"stride", settings_.stride},
                {"max_question_length", settings_.max_question_length},
                {"best_count", settings_.best_count},
                {"max_answer_length", settings_.max_answer_length},
                {"no_answer", settings_.no_answer},
                {"null_threshold", settings_.null_threshold},
                {"missing_answer", settings_.missing_answer},
                {"rules", settings_.rules}}
        .dump();
  }

  std::optional<HeadRequest> head(const Model&, const RecordScan&) const override {
    return HeadRequest{.head = Head::question_answering};
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    const ModelInfo& info = context.model.info();
    if (info.head != Head::question_answering) {
      throw UsageError(concat("objective \"question_answering\" needs a head that answers questions; ",
                              info.architecture, " (", info.model_type, ") has none"));
    }
    return std::make_shared<QuestionEncoder>(settings_, context);
  }

  std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const override {
    return make_question_evaluator(settings_, context);
  }

 private:
  QuestionSettings settings_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_question_answering(const JsonReader& section) {
  return std::make_unique<QuestionAnswering>(section);
}

}  // namespace ondol
