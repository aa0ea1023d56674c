#include "train/batch_text.h"

#include <gtest/gtest.h>

#include "support/tiny_bert.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

using testing::TinyBert;

Tensor row(const std::vector<int32_t>& values) {
  return Tensor::from_vector(values, {1, static_cast<int64_t>(values.size())});
}

Batch batch_of(const std::vector<int32_t>& ids, const std::vector<int32_t>& labels) {
  Batch batch;
  batch.input_ids = row(ids);
  if (!labels.empty()) batch.labels = row(labels);
  batch.labels_shifted = false;
  batch.first_sample = 7;
  return batch;
}

std::string text_of(const TinyBert& bert, const Batch& batch) {
  const Tokenizer tokenizer = load_tokenizer(bert.path());
  return batch_text(batch, *outline_model(bert.path()), &tokenizer);
}

// Pieces by their line in the vocabulary: 2 [CLS], 3 [SEP], 4 [MASK], 5 the, 6 cat, 7 dog, 8 sat, 12 ##s.
TEST(BatchText, MaskedTokensShowWhatIsWanted) {
  const TinyBert bert("BertForMaskedLM");
  Batch batch = batch_of({2, 5, 4, 8, 7, 3, 0, 0}, {-100, -100, 6, 8, 5, -100, -100, -100});
  batch.attention_mask = Tensor::from_vector(std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 0, 0}, {1, 8});
  EXPECT_EQ(text_of(bert, batch),
            "sample 7\n  input   [CLS] the {[MASK] -> cat} {sat} {dog -> the} [SEP]  (2 of padding)\n");
}

TEST(BatchText, LabelsOfTokensAndOfSamplesAreNamed) {
  const std::string names = R"(, "id2label": {"0": "O", "1": "ANIMAL"}, "label2id": {"O": 0, "ANIMAL": 1})";
  EXPECT_EQ(text_of(TinyBert("BertForTokenClassification", names), batch_of({5, 6, 12}, {0, 1, -100})),
            "sample 7\n  input   {the: O} {cat: ANIMAL}s\n");
  Batch whole = batch_of({5, 6, 8}, {});
  whole.labels = Tensor::from_vector(std::vector<int32_t>{1}, {1});
  EXPECT_EQ(text_of(TinyBert("BertForSequenceClassification", names), whole),
            "sample 7\n  input   the cat sat\n  labels  ANIMAL\n");
}

TEST(BatchText, AnswersAreMarkedAsOneStretch) {
  Batch batch = batch_of({2, 5, 6, 8, 3}, {});
  batch.others = {{"start_positions", Tensor::from_vector(std::vector<int32_t>{1}, {1})},
                  {"end_positions", Tensor::from_vector(std::vector<int32_t>{2}, {1})}};
  EXPECT_EQ(text_of(TinyBert("BertForQuestionAnswering"), batch),
            "sample 7\n  input   [CLS] {the cat} sat [SEP]\n  start_positions  1\n  end_positions  2\n");
}

TEST(BatchText, CausalTargetsAreTheTokensThatArePredicted) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto model = outline_model(directory / "model.json");
  Batch batch = batch_of({11, 12, 13, 14, 15, 16}, {-100, -100, 14, 15, -100, -100});
  batch.labels_shifted = true;
  batch.document_ids = row({0, 0, 0, 0, 1, 1});
  EXPECT_EQ(batch_text(batch, *model, nullptr), "sample 7\n  input   11 12 13 {14} | {15} 16\n");
  batch.document_ids = {};
  EXPECT_EQ(batch_text(batch, *model, nullptr), "sample 7\n  input   11 12 13 {14 15} 16\n");
  batch.labels = row({12, 13, 14, 15, 16, -100});
  EXPECT_EQ(batch_text(batch, *model, nullptr), "sample 7\n  input   11 12 13 14 15 16\n");
}

TEST(BatchText, AnOutlineHasNoWeights) {
  const TinyBert bert("BertForMaskedLM");
  const auto outline = outline_model(bert.path());
  EXPECT_EQ(outline->info().vocab_size, 20);
  EXPECT_EQ(outline->config_json(), load_model(bert.path())->config_json());
  EXPECT_FALSE(outline->parameters().flat_values().defined());
}

}  // namespace
}  // namespace ondol
