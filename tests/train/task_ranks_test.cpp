// Fine-tuning on several processes: they share the evaluation of tasks, too, and measure what one process measures.
#include <gtest/gtest.h>

#include "support/byte_tokenizer.h"
#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "support/tiny_bert.h"
#include "train/run_watch.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;

/// Runs of the same configuration on 1, 2 and 3 ranks leave the same metrics, predictions, report and weights.
void expect_same_on_all(const TemporaryDirectory& directory, const std::string& config, size_t predictions) {
  for (const int ranks : {1, 2, 3}) {
    const std::string run = concat("on", ranks);
    const auto errors = testing::run_ranks(ranks, [&](const RankInfo& info,
                                                      const std::shared_ptr<Rendezvous>& meeting) {
      const auto world = make_communicator(info, meeting);
      Trainer(TrainConfig::from_json(config), {.output = directory / run, .device = "cpu", .communicator = world.get()})
          .run();
    });
    ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks)));
    EXPECT_EQ(testing::timeless_metrics(directory / run), testing::timeless_metrics(directory / "on1"));
    testing::expect_same_files(directory, "on1", run, {"final/model.safetensors", "predictions.jsonl", "report.json"});
  }
  const std::string lines = directory.read("on1/predictions.jsonl");
  EXPECT_EQ(static_cast<size_t>(std::count(lines.begin(), lines.end(), '\n')), predictions);
}

std::string section(const std::string& text) {
  return concat(R"(, "optimizer": {"learning_rate": 1e-2}, "checkpoint": {"every": 0}, "evaluation": {"every": 4},
      "logging": {"tensorboard": false}, "train": {"steps": 8, "batch_size": 4, "micro_batch_size": 2}, )",
                text, "}");
}

std::string data_of(const std::string& file, int length) {
  return concat(R"("data": {"train": [)", file, R"(], "validation": [)", file, R"(], "sequence_length": )", length,
                "}");
}

TEST(TaskOnRanks, Classification) {
  const testing::TinyBert bert("BertForMaskedLM");
  const TemporaryDirectory directory;
  const std::string data = directory.write(
      "train.tsv",
      "text\tlabel\nthe cat sat\tanimal\nthe mat is red\tthing\nthe dog is in\tanimal\nthe log is blue\tthing\n"
      "the house is red\tthing\na dog sat on\tanimal\nthe cat is blue\tanimal\n");
  expect_same_on_all(
      directory,
      concat(R"({"model": {"from": ")", bert.path(), "\"}, ", data_of(concat(R"({"path": ")", data, "\"}"), 12),
             section(R"("objective": {"type": "classification"})")),
      7);
}

TEST(TaskOnRanks, QuestionAnswering) {
  const testing::TinyBert bert("BertModel");
  const TemporaryDirectory directory;
  const std::string data = directory.write(
      "questions.jsonl",
      "{\"question\": \"who sat\", \"context\": \"the cat sat on the log . the dog is in the house\", \"answers\": "
      "{\"text\": [\"cat\"], \"answer_start\": [4]}}\n"
      "{\"question\": \"who is in\", \"context\": \"the cat sat on the log . the dog is in the house\", \"answers\": "
      "{\"text\": [\"the dog\"], \"answer_start\": [25]}}\n"
      "{\"question\": \"the mat is\", \"context\": \"the mat is red on the log\", \"answers\": {\"text\": [\"red\"], "
      "\"answer_start\": [11]}}\n");
  expect_same_on_all(
      directory,
      concat(R"({"model": {"from": ")", bert.path(), R"("}, "tokenizer": {"path": ")", bert.path(), "\"}, ",
             data_of(concat(R"({"path": ")", data, "\"}"), 15),
             section(R"("objective": {"type": "question_answering", "stride": 4, "max_answer_length": 4})")),
      3);
}

TEST(TaskOnRanks, SequenceToSequence) {
  const TemporaryDirectory directory;
  testing::byte_tokenizer().save(directory / "tokenizer");
  const std::string model = directory.write("t5.json", R"({"model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"], "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1,
    "num_heads": 2, "pad_token_id": 0, "eos_token_id": 257, "decoder_start_token_id": 0, "vocab_size": 258,
    "dropout_rate": 0.0})");
  directory.write("source.txt", "ab\ncd\nef\ngh i\nj\n");
  directory.write("target.txt", "q r s t\nu v w x\na b\nc\nd e f\n");
  const std::string files =
      concat("{\"path\": \"", directory / "source.txt", "\", \"target_path\": \"", directory / "target.txt", "\"}");
  expect_same_on_all(
      directory,
      concat(R"({"model": {"config": ")", model, R"("}, "tokenizer": {"path": ")", directory / "tokenizer", "\"}, ",
             data_of(files, 16), section(R"("objective": {"type": "seq2seq", "max_target_length": 12})")),
      5);
}

}  // namespace
}  // namespace ondol
