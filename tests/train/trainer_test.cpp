#include <ondol/train/trainer.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/parallel.h>
#include <ondol/train/checkpoint.h>

#include "support/temporary_directory.h"
#include "train/fault_injection.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
using testing::expect_same_run;
using testing::metrics_of;
using testing::RunWatch;
using testing::timeless_metrics;
using testing::tiny_config;

TrainResult run_until(const TrainConfig& config, int64_t step, RunWatch* observer = nullptr,
                      const std::string& resume = "auto") {
  RunWatch own(step);
  RunWatch& watcher = observer != nullptr ? *observer : own;
  Trainer trainer(config, {.resume = resume, .device = "cpu", .stop = &watcher.stop, .observer = &watcher});
  return trainer.run();
}

class Dtypes : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Trainer, Dtypes, ::testing::Values("f32", "bf16"));

TEST_P(Dtypes, ResumedRunIsIdentical) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, /*dropout=*/0.1);
  const std::vector<std::string> dtype = {std::string("train.dtype=") + GetParam()};
  const TrainResult whole = run_until(tiny_config(directory, "whole", dtype), 1000);
  EXPECT_TRUE(whole.finished);
  EXPECT_EQ(whole.directory, directory / "whole/final");
  const TrainConfig config = tiny_config(directory, "parts", dtype);
  for (const int64_t stop : {1, 6, 7, 11}) {
    RunWatch observer(stop);
    const TrainResult part = run_until(config, stop, &observer);
    EXPECT_FALSE(part.finished);
    EXPECT_EQ(part.step, stop);
    EXPECT_EQ(part.directory, concat(directory / "parts/checkpoint-", stop));
    EXPECT_EQ(observer.warnings.find("configuration"), std::string::npos) << observer.warnings;
  }
  EXPECT_TRUE(run_until(config, 1000).finished);
  // The two runs differ in the name of their directory only.
  expect_same_run(directory, "whole", "parts");
  const auto config_json = nlohmann::json::parse(directory.read("whole/final/config.json"));
  EXPECT_EQ(config_json["torch_dtype"], GetParam() == std::string("bf16") ? "bfloat16" : "float32");
}

TEST_P(Dtypes, ResumedAverageIsIdenticalAndBecomesTheFinalModel) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::vector<std::string> set = {std::string("train.dtype=") + GetParam(), "optimizer.ema_decay=0.8"};
  EXPECT_TRUE(run_until(tiny_config(directory, "whole", set), 1000).finished);
  const TrainConfig config = tiny_config(directory, "parts", set);
  for (const int64_t stop : {3, 8}) EXPECT_FALSE(run_until(config, stop).finished);
  EXPECT_TRUE(run_until(config, 1000).finished);
  expect_same_run(directory, "whole", "parts");

  // The final model is the average of the last checkpoint, not its weights.
  const SafetensorsFile state(directory / "whole/checkpoint-12/optimizer.safetensors");
  const SafetensorsFile weights(directory / "whole/checkpoint-12/model.safetensors");
  const SafetensorsFile final_model(directory / "whole/final/model.safetensors");
  const std::string name = "transformer.wte.weight";
  const Tensor final_values = final_model.tensor(name);
  EXPECT_NE(final_values.to_vector<float>(), weights.tensor(name).to_vector<float>());
  std::vector<float> average = state.tensor("average").to(final_values.dtype()).to_vector<float>();
  std::vector<float> values;
  for (const SafetensorsEntry& entry : final_model.entries()) {
    const std::vector<float> part = final_model.tensor(entry.name).to_vector<float>();
    values.insert(values.end(), part.begin(), part.end());
  }
  // The flat buffer has an order, and padding, of its own.
  std::sort(average.begin(), average.end());
  std::sort(values.begin(), values.end());
  std::erase(average, 0.0f);
  std::erase(values, 0.0f);
  EXPECT_EQ(values, average);
}

TEST(Trainer, LossFallsAndMetricsAreComplete) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "run",
                        {"train.steps=60", "optimizer.learning_rate=3e-2",
                         "data.train.0.path=" + directory / "valid.safetensors"}),
            1000);
  const auto lines = metrics_of(directory / "run");
  ASSERT_EQ(lines.size(), 60u + 10u);
  EXPECT_NEAR(lines[0]["loss"].get<double>(), std::log(testing::kTinyVocabulary), 0.5);
  double last = 0;
  int64_t step = 0;
  for (const auto& line : lines) {
    if (line.contains("eval_loss")) continue;
    EXPECT_EQ(line["step"], ++step);
    EXPECT_EQ(line["samples"], 4 * step);
    EXPECT_EQ(line["tokens"], 4 * 16 * step);
    EXPECT_GT(line["seconds"].get<double>(), 0.0);
    EXPECT_GT(line["data_seconds"].get<double>(), 0.0);
    EXPECT_LT(line["data_seconds"].get<double>(), line["seconds"].get<double>());
    EXPECT_GT(line["mfu"].get<double>(), 0.0);
    EXPECT_NEAR(line["tokens_per_second"].get<double>() * line["seconds"].get<double>(), 64.0, 1e-6);
    last = line["loss"];
  }
  EXPECT_LT(last, 0.5);
  EXPECT_LT(lines.back()["eval_loss"].get<double>(), 0.5);
  EXPECT_EQ(lines.back()["eval_targets"], 6 * 15);
  EXPECT_TRUE(fs::exists(directory / "run/final/config.json"));
  EXPECT_EQ(TrainConfig::from_file(directory / "run/config.json").stages[0].steps, 60);
}

TEST(Trainer, MicroBatchesChangeRoundingOnly) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "one", {"train.micro_batch_size=4"}), 1000);
  run_until(tiny_config(directory, "four", {"train.micro_batch_size=1"}), 1000);
  const auto one = metrics_of(directory / "one"), four = metrics_of(directory / "four");
  ASSERT_EQ(one.size(), four.size());
  for (size_t i = 0; i < one.size(); ++i) {
    const char* key = one[i].contains("loss") ? "loss" : "eval_loss";
    EXPECT_NEAR(one[i][key].get<double>(), four[i][key].get<double>(), 2e-4) << i;
  }
}

TEST(Trainer, ThreadsDoNotChangeABit) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  const int threads = num_threads();
  set_num_threads(1);
  run_until(tiny_config(directory, "one"), 1000);
  set_num_threads(2);
  run_until(tiny_config(directory, "two"), 1000);
  set_num_threads(threads);
  expect_same_run(directory, "one", "two");
}

TEST(Trainer, SeedsChangeTheRun) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "a"), 1000);
  run_until(tiny_config(directory, "b", {"train.seed=7"}), 1000);
  EXPECT_NE(timeless_metrics(directory / "a"), timeless_metrics(directory / "b"));
}

TEST(Trainer, DamagedCheckpointFallsBackToTheOneBefore) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "whole"), 1000);
  const TrainConfig config = tiny_config(directory, "run");
  run_until(config, 9);  // checkpoints of steps 4, 8 and 9
  for (const char* name : {"checkpoint-9/model.safetensors", "checkpoint-8/optimizer.safetensors"}) {
    fs::resize_file(directory / ("run/" + std::string(name)), 1000);
  }
  RunWatch observer;
  EXPECT_TRUE(run_until(config, 1000, &observer).finished);
  EXPECT_EQ(observer.first_step, 5);
  EXPECT_NE(observer.warnings.find("checkpoint-9/model.safetensors"), std::string::npos) << observer.warnings;
  EXPECT_NE(observer.warnings.find("checkpoint-8/optimizer.safetensors"), std::string::npos) << observer.warnings;
  expect_same_run(directory, "whole", "run");
}

TEST(Trainer, ResumeNeverStartsOver) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "whole"), 1000);
  const TrainConfig config = tiny_config(directory, "run");
  run_until(config, 6);
  RunWatch observer;
  run_until(config, 1000, &observer, "never");
  EXPECT_EQ(observer.first_step, 1);
  expect_same_run(directory, "whole", "run");
  EXPECT_THROW(run_until(config, 1000, nullptr, directory / "nothing"), UsageError);
}

TEST(Trainer, ADamagedCheckpointDoesNotOutliveWholeOnes) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "whole"), 1000);
  run_until(tiny_config(directory, "run"), 11);  // checkpoints of steps 4, 8 and 11
  fs::resize_file(directory / "run/checkpoint-11/model.safetensors", 1000);
  const TrainConfig config = tiny_config(directory, "run", {"checkpoint.keep=1"});
  EXPECT_EQ(run_until(config, 9).step, 9);
  EXPECT_TRUE(fs::exists(directory / "run/checkpoint-9"));
  EXPECT_FALSE(fs::exists(directory / "run/checkpoint-11"));
  RunWatch observer;
  run_until(config, 1000, &observer);
  EXPECT_EQ(observer.first_step, 10);
  expect_same_run(directory, "whole", "run");
}

TEST(Trainer, ARunThatWentBackGoesOnFromThere) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const TrainConfig config = tiny_config(directory, "run");
  run_until(config, 1000);  // checkpoints of steps 4, 8 and 12
  run_until(config, 6, nullptr, directory / "run/checkpoint-4");
  RunWatch observer;
  EXPECT_TRUE(run_until(config, 1000, &observer).finished);
  EXPECT_EQ(observer.first_step, 7);
}

TEST(Trainer, WhatCannotStartLeavesTheEarlierRun) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "run"), 1000);
  const std::string metrics = directory.read("run/metrics.jsonl");
  const TrainConfig broken = tiny_config(directory, "run", {"data.train.0.path=" + directory / "absent.safetensors"});
  EXPECT_THROW(run_until(broken, 1000, nullptr, "never"), UsageError);
  EXPECT_EQ(directory.read("run/metrics.jsonl"), metrics);
  EXPECT_TRUE(fs::exists(directory / "run/final/model.safetensors"));
  EXPECT_TRUE(fs::exists(directory / "run/checkpoint-12/manifest.json"));
}

TEST(Trainer, ResumeFromAnotherDirectory) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  run_until(tiny_config(directory, "whole"), 1000);
  RunWatch observer;
  run_until(tiny_config(directory, "branch"), 1000, &observer, directory / "whole/checkpoint-8");
  EXPECT_EQ(observer.first_step, 9);
  EXPECT_EQ(directory.read("whole/final/model.safetensors"), directory.read("branch/final/model.safetensors"));
}

TEST(Trainer, AFinishedRunCanBeExtended) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::vector<std::string> constant = {"schedule.type=constant"};
  run_until(tiny_config(directory, "run", constant), 1000);
  RunWatch again;
  EXPECT_EQ(run_until(tiny_config(directory, "run", constant), 1000, &again).step, 12);
  RunWatch longer;
  EXPECT_EQ(run_until(tiny_config(directory, "run", {"schedule.type=constant", "train.steps=16"}), 1000, &longer).step,
            16);
  EXPECT_EQ(longer.first_step, 13);
  EXPECT_EQ(metrics_of(directory / "run").back()["step"], 16);
  // As if the process had died between the last checkpoint and the final model.
  const std::string final_model = directory.read("run/final/model.safetensors");
  fs::copy_file(directory / "run/checkpoint-12/model.safetensors", directory / "run/final/model.safetensors",
                fs::copy_options::overwrite_existing);
  run_until(tiny_config(directory, "run", {"schedule.type=constant", "train.steps=16"}), 1000);
  EXPECT_EQ(directory.read("run/final/model.safetensors"), final_model);
  RunWatch shorter;
  run_until(tiny_config(directory, "run", {"schedule.type=constant", "train.steps=6"}), 1000, &shorter);
  EXPECT_NE(shorter.warnings.find("step 16"), std::string::npos) << shorter.warnings;
}

TEST(Trainer, ChangedDataAndModelAreRefused) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const TrainConfig config = tiny_config(directory, "run");
  run_until(config, 5);
  fs::copy_file(directory / "valid.safetensors", directory / "train.safetensors", fs::copy_options::overwrite_existing);
  try {
    run_until(config, 1000);
    FAIL() << "changed data were accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("changed since the checkpoint"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(run_until(tiny_config(directory, "run", {"checkpoint.allow_changed_data=true"}), 1000).finished);

  std::string text = directory.read("model.json");
  text.replace(text.find("\"n_layer\": 2"), 12, "\"n_layer\": 3");
  directory.write("model.json", text);
  EXPECT_THROW(run_until(tiny_config(directory, "run", {"checkpoint.allow_changed_data=true"}), 1000), UsageError);
}

TEST(Trainer, TwoRunsInOneDirectoryAreRefused) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const TrainConfig config = tiny_config(directory, "run");
  struct Second : RunWatch {
    explicit Second(const TrainConfig& c) : RunWatch(3), config(c) {}
    void on_step(const StepMetrics& metrics) override {
      RunWatch::on_step(metrics);
      if (metrics.step != 2) return;
      try {
        Trainer(config).run();
      } catch (const Error& error) {
        refusal = error.what();
      }
    }
    const TrainConfig& config;
    std::string refusal;
  };
  Second observer(config);
  run_until(config, 3, &observer);
  EXPECT_NE(observer.refusal.find("directory is in use"), std::string::npos) << observer.refusal;
}

TEST(Trainer, NonFiniteLossStopsOrIsSkipped) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  // Weights of 1e38 in the last norm make the logits overflow.
  run_until(tiny_config(directory, "start", {"train.steps=1", "schedule.warmup_steps=0"}), 1000);
  const std::string source = directory / "start/final";
  {
    auto model = load_model(source, {.device = "cpu"});
    for (const auto& entry : model->parameters().entries()) {
      if (entry.name.find("ln_f.weight") != std::string::npos) entry.variable.value().fill(1e38);
    }
    save_model(*model, source);
  }
  const auto config = [&](const char* run, const char* policy) {
    TrainConfig made =
        tiny_config(directory, run, {std::string("train.on_non_finite=") + policy, "evaluation.every=0"});
    made.model = {.config = "", .from = source};
    return made;
  };
  try {
    run_until(config("stop", "stop"), 1000);
    FAIL() << "a loss that is not finite went through";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("training stopped at step 1: loss "), std::string::npos) << message;
    EXPECT_NE(message.find("samples 0 to 3"), std::string::npos) << message;
  }
  EXPECT_TRUE(run_until(config("skip", "skip"), 1000).finished);
  EXPECT_EQ(directory.read("skip/final/model.safetensors"), directory.read("start/final/model.safetensors"));
  const auto lines = metrics_of(directory / "skip");
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines[5]["skipped"], true);
  EXPECT_TRUE(lines[5]["loss"].is_null() || lines[5]["grad_norm"].is_null());
}

TEST(Trainer, LabelSmoothingMovesTheTrainingLossInProportion) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  std::vector<RunWatch> runs(3);
  for (int tenths = 0; tenths < 3; ++tenths) {
    run_until(tiny_config(directory, concat("smoothed-", tenths),
                          {"train.steps=1", "schedule.warmup_steps=0", "optimizer.learning_rate=0",
                           "evaluation.every=1", concat("train.label_smoothing=", 0.1 * tenths)}),
              -1, &runs[static_cast<size_t>(tenths)]);
  }
  const double change = runs[1].losses[0] - runs[0].losses[0];
  EXPECT_GT(std::abs(change), 1e-4);
  EXPECT_NEAR(runs[2].losses[0] - runs[0].losses[0], 2.0 * change, 2e-6);
  EXPECT_EQ(runs[2].evaluations[0].loss, runs[0].evaluations[0].loss);
}

TEST(Trainer, ABatchWithoutATargetIsLeftOut) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  std::vector<int32_t> ids(8 * 16, 5), labels(8 * 16, 7);
  std::fill_n(labels.begin(), 4 * 16, kIgnoreIndex);  // of every other batch of 4
  const Shape shape{8, 16};
  write_safetensors(directory / "train.safetensors",
                    {{"input_ids", Tensor::from_vector(ids, shape)}, {"labels", Tensor::from_vector(labels, shape)}});
  const std::vector<std::string> settings = {"data.shuffle=false", "evaluation.every=0", "train.steps=5",
                                             "schedule.warmup_steps=0"};
  RunWatch observer;
  EXPECT_TRUE(run_until(tiny_config(directory, "run", settings), 1000, &observer).finished);
  const auto lines = metrics_of(directory / "run");
  ASSERT_EQ(lines.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    const bool empty = i % 2 == 0;
    EXPECT_EQ(lines[i].contains("skipped"), empty) << i;
    EXPECT_EQ(lines[i]["loss"].is_null(), empty) << i;
    EXPECT_EQ(lines[i].contains("targets"), empty) << i;
  }
  EXPECT_NE(observer.warnings.find("step 3 has nothing to predict and is left out (samples 8 to 11)"),
            std::string::npos)
      << observer.warnings;
  // The weights are those of the two steps that had something: moments, steps of Adam and all.
  const auto model = load_model(directory / "run/final", {.device = "cpu"});
  for (const float value : model->parameters().flat_values().to_vector<float>()) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(read_trainer_state(directory / "run/checkpoint-5").updates, 2);
}

TEST(Trainer, AfterAnyFailedWriteTheSameCommandGivesTheSameRun) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::vector<std::string> plain = {"logging.tensorboard=false"};  // events are no part of the result
  run_until(tiny_config(directory, "whole", plain), 1000);
  const TrainConfig config = tiny_config(directory, "run", plain);
  int failures = 0, calls = 1;
  for (int n = 0; n < calls; n += 11) {
    fs::remove_all(directory / "run");
    std::string message;
    try {
      const testing::FaultInjection injection(n, n % 2 == 0 ? ENOSPC : EIO);
      run_until(config, 1000);
      calls = std::max(calls, testing::fault().calls);
    } catch (const Error& error) {
      message = error.what();
      calls = std::max(calls, n + 12);
      ++failures;
    }
    EXPECT_TRUE(run_until(config, 1000).finished) << "call " << n << ": " << message;
    expect_same_run(directory, "whole", "run");
  }
  EXPECT_GE(failures, 10);
}

TEST(Trainer, StagesFollowEachOther) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::string other = R"({"train": [{"path": ")" + directory / "valid.safetensors" + R"("}]})";
  const std::vector<std::string> stages = {R"(stages=[{"train": {"steps": 3}},
      {"train": {"steps": 4, "batch_size": 8}, "schedule": {"type": "constant", "warmup_steps": 0}},
      {"train": {"steps": 5}, "data": )" + other +
                                           R"(, "optimizer": {"learning_rate": 1e-3}}])"};
  run_until(tiny_config(directory, "whole", stages), 1000);
  const auto lines = metrics_of(directory / "whole");
  std::map<int64_t, nlohmann::json> by_step;
  for (const auto& line : lines) {
    if (line.contains("loss")) by_step[line["step"]] = line;
  }
  ASSERT_EQ(by_step.size(), 12u);
  EXPECT_EQ(by_step[3]["samples"], 12);
  EXPECT_EQ(by_step[7]["samples"], 12 + 32);
  EXPECT_EQ(by_step[5]["learning_rate"], 1e-2);
  EXPECT_LT(by_step[9]["learning_rate"].get<double>(), 1.01e-3);
  const TrainConfig config = tiny_config(directory, "parts", stages);
  for (const int64_t stop : {2, 3, 5, 7, 9}) run_until(config, stop);
  run_until(config, 1000);
  expect_same_run(directory, "whole", "parts");
}

TEST(Trainer, AnEvaluationWithoutTargetsHasNoLoss) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  write_safetensors(directory / "valid.safetensors", {{"input_ids", Tensor::zeros({6, 16}, DType::i32)},
                                                      {"labels", Tensor::full({6, 16}, kIgnoreIndex, DType::i32)}});
  run_until(tiny_config(directory, "run"), 1000);
  const nlohmann::json last = metrics_of(directory / "run").back();
  EXPECT_TRUE(last.at("eval_loss").is_null()) << last.dump();
  EXPECT_EQ(last["eval_targets"], 0);
}

TEST(Trainer, DryRunLeavesNothing) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  Trainer trainer(tiny_config(directory, "run"), {.device = "cpu"});
  const DryRunReport report = trainer.dry_run();
  EXPECT_EQ(report.run.parameters, trainer.model().parameters().count());
  EXPECT_EQ(report.run.tokens_per_step, 64);
  EXPECT_NEAR(report.loss, std::log(testing::kTinyVocabulary), 0.5);
  EXPECT_GT(report.grad_norm, 0.0);
  EXPECT_GT(report.peak_memory_bytes, report.parameter_bytes);
  EXPECT_EQ(report.rank.ranks, 1);
  EXPECT_EQ(report.rank.parameter_bytes, report.parameter_bytes);
  EXPECT_EQ(report.rank.optimizer_bytes, report.optimizer_bytes);
  EXPECT_FALSE(fs::exists(directory / "run"));
}

TEST(Trainer, DryRunSaysWhatEachOfSeveralProcessesKeeps) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto memory = [&](int stage) {
    Trainer trainer(tiny_config(directory, "run",
                                {"train.dtype=bf16", "parallel.data=4", "train.batch_size=8",
                                 "train.micro_batch_size=1", concat("parallel.zero_stage=", stage)}),
                    {.device = "cpu"});
    return trainer.dry_run().rank;
  };
  // Matrices of 64 x 16, 32 x 16 and, in two layers, 16 x 48, 16 x 16, 16 x 64 and 64 x 16: blocks of 256 elements.
  const uint64_t matrices = 256 * (4 + 2 + 2 * (3 + 1 + 4 + 4)), own = 256 * (1 + 2 * (1 + 1));
  const uint64_t replicated = 256 * (2 + 2 * (3 + 1)), vectors = 16 * (2 + 2 * (4 + 3 + 1 + 4 + 1));
  const uint64_t flat = matrices + vectors, kept = own + replicated + vectors;
  EXPECT_EQ(memory(0).parameter_bytes, 2 * flat + 4 * flat);
  EXPECT_EQ(memory(1).parameter_bytes, 2 * flat + 4 * kept);
  EXPECT_EQ(memory(0).optimizer_bytes, 2 * 4 * flat);
  EXPECT_EQ(memory(2).optimizer_bytes, 2 * 4 * kept);
  EXPECT_EQ(memory(1).gradient_bytes, 2 * 4 * flat);  // two micro-batches each
  EXPECT_EQ(memory(2).gradient_bytes, 2 * 4 * kept);
}

TEST(Trainer, MisfitsAreUsageErrors) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto run_with = [&](const std::vector<std::string>& overrides) {
    Trainer(tiny_config(directory, "run", overrides), {.device = "cpu"}).run();
  };
  EXPECT_THROW(run_with({"parallel.data=2"}), UsageError);
  EXPECT_THROW(run_with({"data.sequence_length=64"}), UsageError);
  EXPECT_THROW(run_with({"model.config=" + directory / "absent.json"}), Error);
  EXPECT_THROW(run_with({"data.train.0.path=" + directory / "absent.safetensors"}), Error);
  EXPECT_FALSE(fs::exists(directory / "run"));
}

}  // namespace
}  // namespace ondol
