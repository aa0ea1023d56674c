// Whole runs of fine-tuning: they learn a few examples by heart, measure it, and go on after a stop as if nothing had
// happened.
#include <ondol/base/error.h>
#include <ondol/predict/predict.h>
#include <ondol/train/trainer.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/byte_tokenizer.h"
#include "support/temporary_directory.h"
#include "support/tiny_bert.h"
#include "train/run_watch.h"

namespace ondol {
namespace {

using testing::byte_tokenizer;
using testing::RunWatch;
using testing::TemporaryDirectory;

/// Runs `config` in `output`; with `stop_at` it stops there and a second run goes on.
void run(const std::string& config, const std::string& output, RunWatch& watch, int64_t stop_at = -1) {
  const TrainConfig settings = TrainConfig::from_json(config);
  if (stop_at >= 0) {
    EXPECT_FALSE(Trainer(settings, watch.watched(output, stop_at)).run().finished);
  }
  EXPECT_TRUE(Trainer(settings, watch.watched(output)).run().finished);
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    lines.push_back(Json::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return lines;
}

constexpr const char* kQuestions =
    "{\"question\": \"who sat\", \"context\": \"the cat sat on the log . the dog is in the house\", \"answers\": "
    "{\"text\": [\"cat\"], \"answer_start\": [4]}}\n"
    "{\"question\": \"who is in\", \"context\": \"the cat sat on the log . the dog is in the house\", \"answers\": "
    "{\"text\": [\"the dog\"], \"answer_start\": [25]}}\n"
    "{\"question\": \"the mat is\", \"context\": \"the mat is red on the log\", \"answers\": {\"text\": [\"red\"], "
    "\"answer_start\": [11]}}\n";

TEST(TaskRun, QuestionAnswering) {
  const testing::TinyBert bert("BertModel");
  const TemporaryDirectory directory;
  const std::string data = directory.write("questions.jsonl", kQuestions);
  const std::string config = concat(R"({"model": {"from": ")", bert.path(), R"("}, "tokenizer": {"path": ")",
                                    bert.path(), R"("}, "data": {"train": [{"path": ")", data,
                                    R"("}], "validation": [{"path": ")", data, R"("}], "sequence_length": 15},
      "objective": {"type": "question_answering", "stride": 4, "max_answer_length": 4},
      "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.0}, "schedule": {"type": "constant"},
      "train": {"steps": 60, "batch_size": 6, "micro_batch_size": 3}, "evaluation": {"every": 60},
      "checkpoint": {"every": 0}, "logging": {"every": 20, "tensorboard": false}})");
  RunWatch watch;
  run(config, directory / "run", watch);
  EXPECT_EQ(watch.metric("f1"), 100.0);
  EXPECT_EQ(watch.metric("exact_match"), 100.0);

  // The model that was written answers the same through predict.
  const auto model = load_model(directory / "run/final", {.device = "cpu"});
  const Tokenizer tokenizer = load_tokenizer(directory / "run/final");
  EXPECT_EQ(model->info().head, Head::question_answering);
  std::vector<TextInput> texts;
  for (const Json& line : lines_of(kQuestions)) texts.push_back({line["question"], line["context"].get<std::string>()});
  const auto answers =
      answer_questions(*model, tokenizer, texts, {.max_answer_tokens = 4, .stride = 4, .texts = {.max_tokens = 15}});
  const std::vector<Json> predictions = lines_of(directory.read("run/predictions.jsonl"));
  ASSERT_EQ(predictions.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(predictions[i]["prediction"], answers[i][0].text);
    EXPECT_EQ(predictions[i]["n_best"][0]["text"], answers[i][0].text);
    EXPECT_NEAR(predictions[i]["n_best"][0]["probability"].get<double>(), answers[i][0].score, 1e-5);
    EXPECT_EQ(predictions[i]["id"], std::to_string(i + 1));
  }
}

/// A T5 with byte tokens in a directory.
std::string write_tiny_t5(const TemporaryDirectory& directory) {
  byte_tokenizer().save(directory / "tokenizer");
  return directory.write("t5.json", R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"],
    "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "pad_token_id": 0, "eos_token_id": 257,
    "decoder_start_token_id": 0, "vocab_size": 258, "dropout_rate": 0.0})");
}

TEST(TaskRun, SequenceToSequence) {
  const TemporaryDirectory directory;
  const std::string model = write_tiny_t5(directory);
  directory.write("source.txt", "ab\ncd\n");
  directory.write("target.txt", "q r s t\nu v w x\n");
  const std::string files =
      concat("[{\"path\": \"", directory / "source.txt", "\", \"target_path\": \"", directory / "target.txt", "\"}]");
  const std::string config =
      concat(R"({"model": {"config": ")", model, R"("}, "tokenizer": {"path": ")", directory / "tokenizer",
             R"("}, "data": {"train": )", files, ", \"validation\": ", files, R"(, "sequence_length": 16},
      "objective": {"type": "seq2seq", "max_target_length": 12, "source_prefix": ">"},
      "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.0}, "schedule": {"type": "constant"},
      "train": {"steps": 120, "batch_size": 2}, "evaluation": {"every": 120},
      "checkpoint": {"every": 0}, "logging": {"every": 20, "tensorboard": false}})");
  RunWatch watch;
  run(config, directory / "run", watch);
  EXPECT_NEAR(watch.metric("bleu"), 100.0, 1e-9);
  EXPECT_NEAR(watch.metric("chrf"), 100.0, 1e-9);
  EXPECT_NEAR(watch.metric("rougeL"), 100.0, 1e-9);
  const std::vector<Json> predictions = lines_of(directory.read("run/predictions.jsonl"));
  ASSERT_EQ(predictions.size(), 2u);
  EXPECT_EQ(predictions[1]["source"], ">cd");
  EXPECT_EQ(predictions[1]["prediction"], "u v w x");
  EXPECT_EQ(predictions[1]["references"], Json({"u v w x"}));
}

TEST(TaskRun, ConversationsGoOnAfterAStop) {
  const TemporaryDirectory directory;
  byte_tokenizer(testing::kChatMl).save(directory / "tokenizer");
  directory.write("llama.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 258,
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "pad_token_id": 257, "eos_token_id": 257})");
  std::string lines;
  for (int i = 0; i < 9; ++i) {
    lines += concat(R"({"messages": [{"role": "user", "content": ")", std::string(static_cast<size_t>(i + 1), 'q'),
                    R"("}, {"role": "assistant", "content": ")", i, "\"}]}\n");
  }
  const std::string config = concat(
      R"({"model": {"config": ")", directory / "llama.json", R"("}, "tokenizer": {"path": ")", directory / "tokenizer",
      R"("}, "data": {"train": [{"path": ")", directory.write("chat.jsonl", lines), R"("}], "sequence_length": 64},
      "objective": {"type": "sft"}, "optimizer": {"learning_rate": 1e-2}, "schedule": {"type": "cosine"},
      "train": {"steps": 8, "batch_size": 2}, "checkpoint": {"every": 4}, "logging": {"tensorboard": false}})");
  RunWatch whole, stopped;
  run(config, directory / "whole", whole);
  run(config, directory / "stopped", stopped, 3);
  testing::expect_same_files(directory, "whole", "stopped", {"final/model.safetensors"});
}

}  // namespace
}  // namespace ondol
