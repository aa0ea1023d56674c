// Questions as samples of a fine-tuning run.
#include <ondol/base/error.h>
#include <ondol/data/data_loader.h>
#include <ondol/train/objective.h>

#include <gtest/gtest.h>

#include "data/record_encoder.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"
#include "support/tiny_bert.h"
#include "train/objectives/answer_records.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

std::unique_ptr<Model> bert_for_answers(int64_t vocab_size, int64_t positions) {
  const TemporaryDirectory directory;
  return create_model(
      directory.write("config.json", concat(R"({"model_type": "bert", "architectures": ["BertForQuestionAnswering"],
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": )",
                                            vocab_size, ", \"max_position_embeddings\": ", positions, "}")),
      DType::f32, {}, 1);
}

std::vector<EncodedSample> samples_of(const Tokenizer& tokenizer, const Model& model, const std::string& record,
                                      const std::string& settings, int64_t length) {
  const auto encoder =
      make_objective(settings)->record_encoder({.model = model, .tokenizer = &tokenizer, .sequence_length = length});
  EncodedRecord out;
  encoder->encode(
      Record(parse_json(record, "record"), std::make_shared<const std::string>("qa.jsonl"), 3, true, nullptr), out);
  return out.samples;
}

const std::vector<int32_t>& column(const EncodedSample& sample, size_t number) {
  return std::get<std::vector<int32_t>>(sample.values[number]);
}

constexpr const char* kSettings = R"({"type": "question_answering", "stride": 2, "max_question_length": 2})";

/// Vocabulary: [CLS] 2, [SEP] 3, the 5, cat 6, dog 7, sat 8, on 9, mat 10, log 11, who 14, is 18, in 19.
TEST(QuestionAnswering, WindowsAndPlacesOfTheAnswer) {
  const testing::TinyBert files("BertForQuestionAnswering");
  const Tokenizer tokenizer = load_tokenizer(files.path());
  const auto model = load_model(files.path(), {.device = "cpu"});
  const std::string record = R"({"question": "who sat who sat", "context": "the cat is in. dog sat on the log",
      "answers": {"text": ["sat on"], "answer_start": [19]}})";
  const std::vector<EncodedSample> samples = samples_of(tokenizer, *model, record, kSettings, 11);
  ASSERT_EQ(samples.size(), 2u);  // six of the ten tokens of the context, two of them again
  EXPECT_EQ(column(samples[0], 0), (std::vector<int32_t>{2, 14, 8, 3, 5, 6, 18, 19, 13, 7, 3}));
  EXPECT_EQ(column(samples[0], 1), (std::vector<int32_t>{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(column(samples[0], 2), std::vector<int32_t>{0});
  EXPECT_EQ(column(samples[0], 3), std::vector<int32_t>{0});
  EXPECT_EQ(column(samples[1], 0), (std::vector<int32_t>{2, 14, 8, 3, 13, 7, 8, 9, 5, 11, 3}));
  EXPECT_EQ(column(samples[1], 2), std::vector<int32_t>{6});
  EXPECT_EQ(column(samples[1], 3), std::vector<int32_t>{7});
}

TEST(QuestionAnswering, AnswersMayBeListsOfObjectsOrWithoutPlaces) {
  const testing::TinyBert files("BertForQuestionAnswering");
  const Tokenizer tokenizer = load_tokenizer(files.path());
  const auto model = load_model(files.path(), {.device = "cpu"});
  for (const char* answers :
       {R"([{"text": "dog", "answer_start": 7}])", R"([{"text": "dog"}])", R"({"text": ["dog"]})"}) {
    const std::string record = concat(R"({"question": "who", "context": "The é; dog", "answers": )", answers, "}");
    const std::vector<EncodedSample> samples = samples_of(tokenizer, *model, record, kSettings, 16);
    ASSERT_EQ(samples.size(), 1u);
    EXPECT_EQ(column(samples[0], 0)[static_cast<size_t>(column(samples[0], 2)[0])], 7) << answers;
  }
}

TEST(QuestionAnswering, ExamplesThatCannotBeUsedAreNamed) {
  const testing::TinyBert files("BertForQuestionAnswering");
  const Tokenizer tokenizer = load_tokenizer(files.path());
  const auto model = load_model(files.path(), {.device = "cpu"});
  const auto error = [&](const std::string& answers, const std::string& settings = kSettings) {
    const std::string record = concat(R"({"question": "who", "context": "the dog", "answers": )", answers, "}");
    return error_of([&] { samples_of(tokenizer, *model, record, settings, 16); });
  };
  EXPECT_EQ(error(R"([{"text": "dog", "answer_start": 3}])"),
            "cannot use example: the answer \"dog\" does not stand at character 3 of the context (qa.jsonl:3)");
  EXPECT_EQ(error(R"([{"text": "cat"}])"),
            "cannot use example: the answer \"cat\" does not stand in the context (qa.jsonl:3)");
  EXPECT_EQ(error(R"([{"text": "dog", "answer_start": 99}])"),
            "cannot use example: the answer \"dog\" does not stand at character 99 of the context (qa.jsonl:3)");
  EXPECT_EQ(error(R"([{"text": "dog", "answer_start": -1}])"),
            "cannot use example: the answer \"dog\" does not stand at character -1 of the context (qa.jsonl:3)");
  EXPECT_EQ(error("[]"), "cannot use example: the question has no answer (qa.jsonl:3)");
  EXPECT_EQ(error(R"({"text": "dog"})"),
            "cannot use example: field \"answers\" must have lists \"text\" and \"answer_start\" (qa.jsonl:3)");
  EXPECT_EQ(error(R"([{"text": "cat"}])", R"({"type": "question_answering", "missing_answer": "drop"})"), "no error");
  EXPECT_EQ(error("[]", R"({"type": "question_answering", "no_answer": true})"), "no error");
  EXPECT_NE(error("[]", R"({"type": "question_answering", "no_answer": true, "rules": "korquad"})").find("rules"),
            std::string::npos);
  const testing::TinyBert plain("BertModel");
  const auto headless = load_model(plain.path(), {.device = "cpu"});
  EXPECT_NE(error_of([&] { samples_of(tokenizer, *headless, "{}", kSettings, 16); }).find("BertModel (bert) has none"),
            std::string::npos);
}

TEST(QuestionAnswering, ReadsTheFilesOfSquad) {
  ONDOL_REQUIRE_DATA("tasks/xquad/xquad.en.json");
  ONDOL_REQUIRE_DATA("models/all-minilm-l6-v2");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("models/all-minilm-l6-v2"));
  const auto model = bert_for_answers(tokenizer.vocab_size(), 512);
  DataConfig config;
  config.train = {{.path = test::data_path("tasks/xquad/xquad.en.json")}};
  config.sequence_length = 384;
  config.shuffle = false;
  const auto objective = make_objective(std::string(R"({"type": "question_answering", "max_question_length": 384})"));
  DataLoader loader(config, DataSplit::train,
                    {.record_encoder = objective->record_encoder(
                         {.model = *model, .tokenizer = &tokenizer, .sequence_length = 384})});
  // Windows, and sums of the first and last tokens, as transformers' example makes them.
  EXPECT_EQ(loader.samples_per_epoch(), 1219);
  const Batch batch = objective->prepare(loader.next(1219), {.model = *model});
  int64_t starts = 0, ends = 0;
  for (const auto& [name, tensor] : batch.others) {
    if (name != "start_positions" && name != "end_positions") continue;
    for (const int32_t position : tensor.to_vector<int32_t>()) (name == "start_positions" ? starts : ends) += position;
  }
  EXPECT_EQ(starts, 97016);
  EXPECT_EQ(ends, 100568);
}

TEST(QuestionAnswering, DocumentsOfAnotherFormAreRefused) {
  EXPECT_EQ(error_of([] { squad_records(Json::parse(R"({"data": [{"paragraphs": 1}]})"), "a.json"); }),
            "cannot read questions: no list \"paragraphs\" as in SQuAD's files (a.json)");
}

}  // namespace
}  // namespace ondol
