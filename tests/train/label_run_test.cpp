// Whole runs that teach a model labels: new heads, metrics, the best model, adapters, stops.
#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/models/lora.h>
#include <ondol/predict/predict.h>
#include <ondol/train/trainer.h>

#include "base/json_reader.h"
#include "support/temporary_directory.h"
#include "support/tiny_bert.h"
#include "train/run_watch.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
using testing::RunWatch;
using testing::TemporaryDirectory;

TrainResult run(const std::string& config, const std::string& output, RunWatch& watch, int64_t stop_at = -1) {
  return Trainer(TrainConfig::from_json(config), watch.watched(output, stop_at)).run();
}

/// Animals and things, told apart by the second word.
constexpr const char* kSentences =
    "text\tlabel\nthe cat sat\tanimal\nthe mat is red\tthing\nthe dog is in\tanimal\nthe log is blue\tthing\n"
    "the house is red\tthing\na dog sat on\tanimal\nthe cat is blue\tanimal\nthe log sat\tthing\n";

struct LabelRun {
  explicit LabelRun(const std::string& architecture = "BertForMaskedLM") : bert(architecture) {}
  std::string config(const std::string& file, const std::string& rest) const {
    return concat(R"({"model": {"from": ")", bert.path(), R"("}, "data": {"train": [{"path": ")", file,
                  R"("}], "validation": [{"path": ")", file, R"("}], "sequence_length": 12},
      "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.0}, "logging": {"tensorboard": false}, )",
                  rest, "}");
  }
  testing::TinyBert bert;
  TemporaryDirectory directory;
};

TEST(LabelRun, ClassificationLearnsAndItsDirectoryPredicts) {
  const LabelRun task;
  const std::string data = task.directory.write("train.tsv", kSentences);
  RunWatch watch;
  run(task.config(data, R"("objective": {"type": "classification"}, "train": {"epochs": 30, "batch_size": 3},
      "evaluation": {"every": 30}, "checkpoint": {"every": 0})"),
      task.directory / "run", watch);
  EXPECT_EQ(watch.steps.back().step, 80);  // 30 epochs of 8 examples, 3 a step
  EXPECT_EQ(watch.metric("accuracy"), 1.0);
  EXPECT_EQ(watch.metric("matthews_correlation"), 1.0);

  const std::string final = task.directory / "run/final";
  const auto model = load_model(final, {.device = "cpu"});
  EXPECT_EQ(model->info().architecture, "BertForSequenceClassification");
  EXPECT_EQ(model->info().labels, (std::vector<std::string>{"animal", "thing"}));
  const std::vector<TextInput> texts = {{"the dog sat", {}}, {"the house is blue", {}}};
  const auto answers = classify(*model, load_tokenizer(final), texts);
  EXPECT_EQ(answers[0][0].label, "animal");
  EXPECT_EQ(answers[1][0].label, "thing");
  const Json config = load_json(final + "/config.json");
  EXPECT_EQ(config["id2label"]["1"], "thing");
  EXPECT_EQ(config["label2id"]["animal"], 0);
}

class DecoderLabelRun : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(
    LabelRun, DecoderLabelRun,
    ::testing::Values(
        R"("model_type": "gpt2", "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2)",
        R"("model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
           "num_attention_heads": 2, "max_position_embeddings": 16)",
        R"("model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 16,
           "init_std": 0.2, "decoder_start_token_id": 3)",
        R"("model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2,
           "decoder_start_token_id": 0)"));

/// Models that predict tokens get a head for labels; what they were pretrained to write with is left behind.
TEST_P(DecoderLabelRun, LanguageModelsLearnLabels) {
  const LabelRun task;
  const std::string source = task.directory.write(
      "source.json", concat("{", GetParam(), R"(, "vocab_size": 20, "initializer_range": 0.4, "pad_token_id": 0,
      "eos_token_id": 3, "bos_token_id": 2})"));
  const std::string base = task.directory / "base";
  save_model(*create_model(source, DType::f32, {}, 7), base);
  const auto set_up = [&](std::string config) {
    config.replace(config.find(task.bert.path()), task.bert.path().size(), base);
    return config.insert(1, concat(R"("tokenizer": {"path": ")", task.bert.path(), "\"}, "));
  };
  const std::string data = task.directory.write("train.tsv", kSentences);
  RunWatch watch;
  run(set_up(task.config(data, R"("objective": {"type": "classification"}, "train": {"epochs": 40, "batch_size": 4},
      "evaluation": {"every": 80}, "checkpoint": {"every": 0})")),
      task.directory / "run", watch);
  EXPECT_EQ(watch.metric("accuracy"), 1.0);
  const std::string final = task.directory / "run/final";
  const auto model = load_model(final, {.device = "cpu"});
  EXPECT_TRUE(model->info().architecture.ends_with("ForSequenceClassification")) << model->info().architecture;
  const std::vector<TextInput> texts = {{"the dog is in", {}}, {"the house is red", {}}, {"the cat sat", {}}};
  const auto answers = classify(*model, load_tokenizer(final), texts);
  EXPECT_EQ(answers[0][0].label, "animal");
  EXPECT_EQ(answers[1][0].label, "thing");
  EXPECT_EQ(answers[2][0].label, "animal");

  const std::string values =
      task.directory.write("values.tsv", "text\ttext_pair\tlabel\nthe cat\tthe dog\t3\nthe cat\tthe log\t0.5\n");
  run(set_up(task.config(values, R"("objective": {"type": "regression"}, "train": {"steps": 3, "batch_size": 2},
      "checkpoint": {"every": 0})")),
      task.directory / "values", watch);
  EXPECT_TRUE(load_model(task.directory / "values/final")->info().regression);

  const std::string words = task.directory.write(
      "words.conll", "the O\nred O\ncats B-ANIMAL\nsat O\n\ndogs B-ANIMAL\nis O\nin O\nthe O\nhouse B-PLACE\n");
  const std::string tagging = set_up(task.config(words, R"("objective": {"type": "token_classification"},
      "train": {"steps": 80, "batch_size": 2}, "evaluation": {"every": 80}, "checkpoint": {"every": 0})"));
  const bool decoder = Json::parse(concat("{", GetParam(), "}")).contains("num_attention_heads") ||
                       Json::parse(concat("{", GetParam(), "}")).contains("n_head");
  if (!decoder) {
    EXPECT_THROW(run(tagging, task.directory / "words", watch), UsageError);
    return;
  }
  run(tagging, task.directory / "words", watch);
  EXPECT_EQ(watch.metric("accuracy"), 1.0);
}

TEST(LabelRun, SeveralLabelsValuesAndWords) {
  const LabelRun task;
  const std::string several = task.directory.write(
      "several.jsonl",
      "{\"text\": \"the red cat\", \"label\": [\"red\", \"cat\"]}\n{\"text\": \"the blue cat\", \"label\": [\"cat\"]}\n"
      "{\"text\": \"the red log\", \"label\": [\"red\"]}\n{\"text\": \"the blue log\", \"label\": []}\n");
  const std::string values = task.directory.write(
      "values.csv", "\"the cat\",\"the dog\",3.5\nthe cat,the log,0.5\nthe mat,the log,2\nthe house,the house,5\n");
  const std::string words = task.directory.write(
      "words.conll", "the O\nred O\ncats B-ANIMAL\nsat O\n\ndogs B-ANIMAL\nis O\nin O\nthe O\nhouse B-PLACE\n");
  const std::string rest = R"("train": {"steps": 80, "batch_size": 4}, "evaluation": {"every": 80},
      "checkpoint": {"every": 0})";
  RunWatch watch;
  run(task.config(several, R"("objective": {"type": "classification", "multi_label": true}, )" + rest),
      task.directory / "several", watch);
  EXPECT_EQ(watch.metric("subset_accuracy"), 1.0);
  EXPECT_TRUE(load_model(task.directory / "several/final")->info().multi_label);

  std::string config = task.config(values, R"("objective": {"type": "regression"}, )" + rest);
  config.insert(config.find("\"sequence_length\""), R"("columns": ["text", "text_pair", "label"], )");
  config.replace(config.find("\"steps\": 80"), 11, "\"steps\": 400");
  config.replace(config.find("\"every\": 80"), 11, "\"every\": 400");
  run(config, task.directory / "values", watch);
  EXPECT_GT(watch.metric("pearson"), 0.99);
  EXPECT_TRUE(load_model(task.directory / "values/final")->info().regression);

  run(task.config(words, R"("objective": {"type": "token_classification"}, )" + rest), task.directory / "words", watch);
  EXPECT_EQ(watch.metric("f1"), 1.0);
  EXPECT_EQ(watch.metric("accuracy"), 1.0);
  EXPECT_EQ(load_model(task.directory / "words/final")->info().labels,
            (std::vector<std::string>{"B-ANIMAL", "B-PLACE", "O"}));
}

TEST(LabelRun, TheBestModelIsKeptAcrossStops) {
  const LabelRun task;
  const std::string data = task.directory.write("train.tsv", kSentences);
  const std::string config = task.config(data, R"("objective": {"type": "classification"},
      "train": {"steps": 24, "batch_size": 4}, "evaluation": {"every": 2, "keep_best": true, "metric": "loss"},
      "checkpoint": {"every": 5})");
  RunWatch whole, parts;
  run(config, task.directory / "whole", whole);
  double best = 1e30;
  for (const EvaluationMetrics& evaluation : whole.evaluations) best = std::min(best, evaluation.loss);
  for (const int64_t stop : {3, 8, 9, 17}) EXPECT_FALSE(run(config, task.directory / "parts", parts, stop).finished);
  EXPECT_TRUE(run(config, task.directory / "parts", parts).finished);
  EXPECT_EQ(parts.losses, whole.losses);
  testing::expect_same_files(task.directory, "whole", "parts",
                             {"final/model.safetensors", "predictions.jsonl", "report.json"});
  // The loss that final/ has on the same data is the least one that was seen.
  RunWatch again;
  std::string check = config;
  check.replace(check.find(task.bert.path()), task.bert.path().size(), task.directory / "whole/final");
  check.replace(check.find("\"learning_rate\": 1e-2"), 21, "\"learning_rate\": 0.0");
  check.replace(check.find("\"steps\": 24"), 11, "\"steps\": 2");
  run(check, task.directory / "check", again);
  EXPECT_NEAR(again.evaluations.back().loss, best, 1e-6);
}

TEST(LabelRun, RunsThatGetNoBetterEndEarly) {
  const LabelRun task;
  const std::string data = task.directory.write("train.tsv", kSentences);
  std::string config = task.config(data, R"("objective": {"type": "classification"},
      "train": {"steps": 50, "batch_size": 4}, "evaluation": {"every": 2, "patience": 3}, "checkpoint": {"every": 0})");
  config.replace(config.find("\"learning_rate\": 1e-2"), 21, "\"learning_rate\": 0.0");
  RunWatch watch;
  EXPECT_TRUE(run(config, task.directory / "run", watch).finished);
  EXPECT_EQ(watch.steps.back().step, 8);  // the first evaluation, and three that are no better
}

TEST(LabelRun, AnAdapterBringsItsHead) {
  const LabelRun task;
  const std::string data = task.directory.write("train.tsv", kSentences);
  const std::string config = task.config(data, R"("objective": {"type": "classification"},
      "lora": {"rank": 4, "targets": ["query", "value"]}, "train": {"steps": 60, "batch_size": 4},
      "evaluation": {"every": 60}, "checkpoint": {"every": 7})");
  RunWatch whole, parts;
  run(config, task.directory / "whole", whole);
  EXPECT_GT(whole.metric("accuracy"), 0.7);
  run(config, task.directory / "parts", parts, 10);
  run(config, task.directory / "parts", parts);
  testing::expect_same_files(task.directory, "whole", "parts", {"final/adapter_model.safetensors"});
  const std::string final = task.directory / "whole/final";
  EXPECT_TRUE(is_adapter(final));
  const auto model = load_model(final, {.device = "cpu"});
  EXPECT_EQ(model->info().labels, (std::vector<std::string>{"animal", "thing"}));
  const std::vector<TextInput> texts = {{"the dog is in", {}}, {"the house is red", {}}};
  const auto answers = classify(*model, load_tokenizer(final), texts);
  // What the run has said of its third and fifth example.
  std::istringstream lines(task.directory.read("whole/predictions.jsonl"));
  std::string line;
  for (int i = 0; std::getline(lines, line); ++i) {
    if (i != 2 && i != 4) continue;
    const LabelScore& best = answers[static_cast<size_t>(i / 2 - 1)].front();
    EXPECT_EQ(Json::parse(line)["prediction"], best.label);
    EXPECT_NEAR(Json::parse(line)["scores"][best.label].get<double>(), best.score, 1e-6);
  }
}

/// peft writes no head.json: the task and the saved head say what it is.
TEST(LabelRun, AdaptersWithoutAHeadFileBringTheirHead) {
  const LabelRun task;
  const std::string data = task.directory.write("train.tsv", kSentences);
  RunWatch watch;
  run(task.config(data, R"("objective": {"type": "classification"},
      "lora": {"rank": 4, "targets": ["query", "value"]}, "train": {"steps": 60, "batch_size": 4},
      "evaluation": {"every": 60}, "checkpoint": {"every": 0})"),
      task.directory / "run", watch);
  const std::string final = task.directory / "run/final";
  const std::vector<TextInput> texts = {{"the dog is in", {}}, {"the house is red", {}}};
  const Tokenizer tokenizer = load_tokenizer(final);
  const auto expected = classify(*load_model(final, {.device = "cpu"}), tokenizer, texts);
  fs::remove(final + "/head.json");
  Json settings = load_json(final + "/adapter_config.json");
  settings["task_type"] = "SEQ_CLS";
  task.directory.write("run/final/adapter_config.json", settings.dump());
  const auto found = classify(*load_model(final, {.device = "cpu"}), tokenizer, texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(found[i][0].label, expected[i][0].label == "animal" ? "LABEL_0" : "LABEL_1");
    EXPECT_EQ(found[i][0].score, expected[i][0].score);
  }

  // Training goes on from there, with the labels of the adapter; those of the data are other ones.
  const auto from = [&](const std::string& rest) {
    std::string config = task.config(data, rest);
    return config.replace(config.find(task.bert.path()), task.bert.path().size(), final);
  };
  EXPECT_THROW(run(from(R"("objective": {"type": "classification"}, "train": {"steps": 1, "batch_size": 1})"),
                   task.directory / "again", watch),
               Error);
  run(from(R"("objective": {"type": "classification", "labels": ["animal", "thing"]}, "train": {"steps": 1,
      "batch_size": 8})"),
      task.directory / "named", watch);
  EXPECT_EQ(classify(*load_model(task.directory / "named/final", {.device = "cpu"}), tokenizer, texts)[0][0].label,
            expected[0][0].label);
}

TEST(LabelRun, WhatDoesNotFitIsNamedWithItsPlace) {
  const LabelRun task;
  const auto error_of = [&](const std::string& name, const std::string& text, const std::string& objective) {
    const std::string data = task.directory.write(name, text);
    RunWatch watch;
    try {
      run(task.config(data, concat(R"("objective": )", objective, R"(, "train": {"steps": 1, "batch_size": 1})")),
          task.directory / "error", watch);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto expect = [](const std::string& error, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(error.find(part), std::string::npos) << part << " in: " << error;
  };
  expect(error_of("a.tsv", "text\tlabel\nthe cat\tanimal\nthe log\tstone\n",
                  R"({"type": "classification", "labels": ["animal", "thing"]})"),
         {"a.tsv", "3", "stone"});
  expect(error_of("b.jsonl", "{\"text\": \"the cat\"}\n", R"({"type": "classification"})"), {"b.jsonl", "label"});
  expect(error_of("c.jsonl", "{\"text\": \"the cat\", \"label\": \"x\"}\n{\"text\": \"\", \"label\": \"y\"}\n",
                  R"({"type": "classification"})"),
         {"c.jsonl", "2", "text"});
  expect(error_of("d.jsonl", "{\"text\": \"the cat\", \"label\": \"high\"}\n", R"({"type": "regression"})"),
         {"d.jsonl", "label"});
  EXPECT_FALSE(fs::exists(task.directory / "error"));
}

}  // namespace
}  // namespace ondol
