// Labels and values of texts and of pairs of texts: "classification" (one label, or several at once) and "regression".
#include "train/objectives/encoder_inputs.h"
#include "train/objectives/label_evaluator.h"
#include "train/objectives/label_map.h"
#include "train/objectives/objectives.h"

#include <ondol/data/documents.h>

namespace ondol {

namespace {

constexpr const char* kValueLabel = "LABEL_0";  // as Hugging Face calls the one value of a regression

/// What a record's label is to the loss: the number of one label, a row with 1 for every label that holds, or the value
/// of a regression.
enum class Target { one_label, label_row, value };

class LabelEncoder final : public RecordEncoder {
 public:
  LabelEncoder(const RecordContext& context, Target target, LabelMap labels)
      : inputs_(context, target == Target::value ? "regression" : "classification"),
        target_(target),
        labels_(std::move(labels)) {}

  std::vector<SampleColumn> columns() const override {
    SampleColumn column{.name = "labels", .kind = SampleColumn::scalar};
    if (target_ != Target::one_label) column.dtype = DType::f32;
    if (target_ == Target::label_row) {
      column.kind = SampleColumn::row;
      column.width = labels_.size();
    }
    std::vector<SampleColumn> columns = inputs_.columns();
    columns.push_back(std::move(column));
    return columns;
  }
  uint64_t fingerprint() const override {
    uint64_t value = inputs_.fingerprint();
    if (target_ != Target::one_label) value = mix_fingerprint(value, "values");
    for (const std::string& name : labels_.names()) value = mix_fingerprint(value, name);
    return value;
  }
  std::vector<std::string> fields() const override { return {"text", "text_pair", "label"}; }
  void encode(const Record& record, EncodedRecord& out) const override {
    const RecordTexts texts(record);
    EncodedTexts encoded = inputs_.encode(texts.text, texts.pair ? &*texts.pair : nullptr);
    out.truncated = encoded.truncated;
    std::vector<ColumnValues> values = inputs_.values(std::move(encoded));
    values.push_back(label_values(record));
    out.samples.push_back({.values = std::move(values)});
  }

 private:
  ColumnValues label_values(const Record& record) const {
    if (target_ == Target::one_label) return std::vector<int32_t>{labels_.number(record.name("label"), record)};
    if (target_ == Target::value) return std::vector<float>{static_cast<float>(record.number("label"))};
    std::vector<float> row(static_cast<size_t>(labels_.size()), 0.0f);
    for (const std::string& name : record.names("label")) {
      row[static_cast<size_t>(labels_.number(name, record))] = 1.0f;
    }
    return row;
  }

  EncoderInputs inputs_;
  Target target_;
  LabelMap labels_;
};

class Classification final : public Objective {
 public:
  explicit Classification(const JsonReader& section)
      : labels_(read_labels(section)), multi_label_(section.get<bool>("multi_label", false)) {}

  std::string settings() const override {
    Json out = {{"type", "classification"}, {"multi_label", multi_label_}};
    if (!labels_.empty()) out["labels"] = labels_;
    return out.dump();
  }

  std::optional<HeadRequest> head(const Model& base, const RecordScan& training) const override {
    const auto names_of = [this](const Record& record) {
      return multi_label_ ? record.names("label") : std::vector<std::string>{record.name("label")};
    };
    return HeadRequest{.head = Head::sequence_classification,
                       .labels = choose_labels(labels_, Head::sequence_classification, base, training, names_of),
                       .problem_type = multi_label_ ? "multi_label_classification" : "single_label_classification"};
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    LabelMap labels = labels_of_model(context.model, Head::sequence_classification, labels_, "classification");
    return std::make_shared<LabelEncoder>(context, multi_label_ ? Target::label_row : Target::one_label,
                                          std::move(labels));
  }

  std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const override {
    return make_label_evaluator(context);
  }

 private:
  std::vector<std::string> labels_;
  bool multi_label_;
};

class Regression final : public Objective {
 public:
  std::string settings() const override { return R"({"type":"regression"})"; }

  std::optional<HeadRequest> head(const Model& base, const RecordScan&) const override {
    const ModelInfo& info = base.info();
    const bool there = info.head == Head::sequence_classification && info.regression && info.labels.size() == 1;
    return HeadRequest{.head = Head::sequence_classification,
                       .labels = there ? info.labels : std::vector<std::string>{kValueLabel},
                       .problem_type = "regression"};
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    const ModelInfo& info = context.model.info();
    if (info.head != Head::sequence_classification || !info.regression || info.labels.size() != 1) {
      throw UsageError(concat("objective \"regression\" needs another head than ", info.architecture, " has"),
                       "the head of a run is that of its first stage");
    }
    return std::make_shared<LabelEncoder>(context, Target::value, LabelMap());
  }

  std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const override {
    return make_label_evaluator(context);
  }
};

}  // namespace

std::unique_ptr<Objective> objectives::make_classification(const JsonReader& section) {
  return std::make_unique<Classification>(section);
}

std::unique_ptr<Objective> objectives::make_regression(const JsonReader&) { return std::make_unique<Regression>(); }

}  // namespace ondol
