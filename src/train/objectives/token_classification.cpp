// Labels of words ("token_classification"): the first piece of each word is the one that is asked, as in the Hugging
// Face recipe; other pieces and special tokens have no label.
#include <ondol/data/documents.h>

#include "train/objectives/encoder_inputs.h"
#include "train/objectives/label_evaluator.h"
#include "train/objectives/label_map.h"
#include "train/objectives/objectives.h"

namespace ondol {

namespace {

class TaggedWordsEncoder final : public RecordEncoder {
 public:
  TaggedWordsEncoder(const RecordContext& context, LabelMap labels)
      : inputs_(context, "token_classification"), labels_(std::move(labels)) {}

  std::vector<SampleColumn> columns() const override {
    std::vector<SampleColumn> columns = inputs_.columns();
    columns.push_back(inputs_.token_labels());
    return columns;
  }
  uint64_t fingerprint() const override {
    uint64_t value = mix_fingerprint(inputs_.fingerprint(), "words");
    for (const std::string& name : labels_.names()) value = mix_fingerprint(value, name);
    return value;
  }
  std::vector<std::string> fields() const override { return {"words", "tags"}; }

  void encode(const Record& record, EncodedRecord& out) const override {
    const std::vector<std::string> words = record.texts("words"), tags = record.names("tags");
    if (words.empty()) record.fail(concat("field ", record.label_of("words"), " is empty"));
    if (words.size() != tags.size()) record.fail(concat(words.size(), " words, but ", tags.size(), " tags"));
    std::vector<int32_t> numbers;
    for (const std::string& tag : tags) numbers.push_back(labels_.number(tag, record));
    EncodedTexts encoded = inputs_.encode_words(words);
    std::vector<int32_t> labels;
    int32_t last = -1;
    for (const int32_t word : encoded.word_ids) {
      labels.push_back(word < 0 || word == last ? kIgnoreIndex : numbers[static_cast<size_t>(word)]);
      last = word;
    }
    out.truncated = encoded.truncated;
    std::vector<ColumnValues> values = inputs_.values(std::move(encoded));
    values.emplace_back(std::move(labels));
    out.samples.push_back({.values = std::move(values)});
  }

 private:
  EncoderInputs inputs_;
  LabelMap labels_;
};

class TokenClassification final : public Objective {
 public:
  explicit TokenClassification(const JsonReader& section) : labels_(read_labels(section)) {}

  std::string settings() const override {
    Json out = {{"type", "token_classification"}};
    if (!labels_.empty()) out["labels"] = labels_;
    return out.dump();
  }

  std::optional<HeadRequest> head(const Model& base, const RecordScan& training) const override {
    const auto names_of = [](const Record& record) { return record.names("tags"); };
    return HeadRequest{.head = Head::token_classification,
                       .labels = choose_labels(labels_, Head::token_classification, base, training, names_of)};
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    return std::make_shared<TaggedWordsEncoder>(
        context, labels_of_model(context.model, Head::token_classification, labels_, "token_classification"));
  }

  std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const override {
    return make_label_evaluator(context);
  }

 private:
  std::vector<std::string> labels_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_token_classification(const JsonReader& section) {
  return std::make_unique<TokenClassification>(section);
}

}  // namespace ondol
