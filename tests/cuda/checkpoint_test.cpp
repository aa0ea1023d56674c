// Checkpoints that are written in the background, on cuda:0 (the emulated backend).
#include <atomic>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/parallel.h>

#include "../train/fault_injection.h"
#include "train/checkpoint_writer.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
constexpr Device kCuda{DeviceType::cuda, 0};

std::vector<std::string> files_of(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// A model on cuda:0 with an optimizer that has done a step.
struct Subject {
  explicit Subject(DType dtype) {
    testing::write_tiny_inputs(directory);
    model = create_model(directory / "model.json", dtype, kCuda, 5);
    optimizer = make_optimizer({.ema_decay = 0.5}, model->parameters());
    change(1);
  }
  void change(int64_t step) {
    model->parameters().enable_gradients();
    model->parameters().flat_gradients().fill(0.25 * static_cast<double>(step));
    optimizer->step({.learning_rate = 1e-2, .update = step});
  }
  CheckpointParts parts(int64_t step) const {
    TrainerState state;
    state.step = step;
    return {.model = *model, .optimizer = *optimizer, .tokenizer = nullptr, .state = state};
  }

  testing::TemporaryDirectory directory;
  std::unique_ptr<Model> model;
  std::unique_ptr<Optimizer> optimizer;
};

class BackgroundCheckpoint : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, BackgroundCheckpoint, ::testing::Values(DType::f32, DType::bf16));

TEST_P(BackgroundCheckpoint, HoldsTheValuesOfTheMomentItWasStarted) {
  Subject subject(GetParam());
  const std::string expected = write_checkpoint(subject.directory / "at-once", subject.parts(3), 0);
  CheckpointWriter writer;
  writer.start(subject.directory / "later", subject.parts(3), 0);
  subject.change(2);
  subject.model->parameters().flat_values().fill(7.0);
  subject.optimizer->state()[0].second.fill(8.0);
  const std::string written = writer.finish();
  EXPECT_EQ(written, subject.directory / "later/checkpoint-3");
  verify_checkpoint(written);
  ASSERT_EQ(files_of(written), files_of(expected));
  for (const std::string& name : files_of(written)) {
    EXPECT_EQ(subject.directory.read("later/checkpoint-3/" + name),
              subject.directory.read("at-once/checkpoint-3/" + name))
        << name;
  }
  EXPECT_EQ(writer.finish(), "");
  EXPECT_EQ(writer.poll(), "");
}

TEST(BackgroundCheckpoints, OneIsUnderWayAtATimeAndErrorsComeBack) {
  Subject subject(DType::f32);
  CheckpointWriter writer;
  const std::string run = subject.directory / "run";
  writer.start(run, subject.parts(1), 0);
  EXPECT_THROW(writer.start(run, subject.parts(2), 0), Error);
  EXPECT_EQ(writer.finish(), run + "/checkpoint-1");
  for (const int fail_at : {0, 3, 9}) {
    const testing::FaultInjection injection(fail_at, ENOSPC);
    writer.start(run, subject.parts(2), 0);
    try {
      writer.finish();
      FAIL() << "written on a full disk";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_EQ(message.find("checkpoint of step 2 was not written: "), 0u) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos);
    }
  }
  EXPECT_EQ(files_of(run), (std::vector<std::string>{"checkpoint-1"}));
  writer.start(run, subject.parts(2), 1);
  for (std::string done; done.empty(); done = writer.poll()) std::this_thread::yield();
  EXPECT_EQ(files_of(run), (std::vector<std::string>{"checkpoint-2"}));
}

struct Recorder : TrainObserver {
  void on_step(const StepMetrics& metrics) override { step = metrics.step; }
  void on_checkpoint(const std::string& directory) override {
    verify_checkpoint(directory);
    checkpoints.push_back(fs::path(directory).filename().string());
  }
  int64_t step = 0;
  std::vector<std::string> checkpoints;
};

TrainResult train(const testing::TemporaryDirectory& directory, const std::string& run, TrainObserver* observer,
                  const std::atomic<bool>* stop = nullptr, std::vector<std::string> overrides = {}) {
  Trainer trainer(testing::tiny_config(directory, run, std::move(overrides)),
                  {.device = "cuda:0", .stop = stop, .observer = observer});
  return trainer.run();
}

TEST(BackgroundCheckpoints, ARunReportsEachOnceItIsWholeAndWaitsForTheLast) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  Recorder recorder;
  ASSERT_TRUE(train(directory, "run", &recorder).finished);
  EXPECT_EQ(recorder.checkpoints, (std::vector<std::string>{"checkpoint-4", "checkpoint-8", "checkpoint-12"}));
}

TEST(BackgroundCheckpoints, StoppingWaitsAndGoesOnWithTheSameBytes) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  Recorder recorder;
  std::atomic<bool> stop = true;
  TrainResult result;
  int parts = 0;
  for (; !result.finished && parts < 20; ++parts) {
    result = train(directory, "parts", &recorder, &stop);
    verify_checkpoint(result.finished ? result.directory + "/../checkpoint-12" : result.directory);
  }
  EXPECT_GE(parts, 11) << "each part is a step";
  train(directory, "whole", nullptr);
  for (const char* name : {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"}) {
    EXPECT_EQ(directory.read(std::string("parts/") + name), directory.read(std::string("whole/") + name)) << name;
  }
}

TEST(BackgroundCheckpoints, ADiskThatFillsUpEndsTheRunWithOneLine) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  /// Lets the disk fill up once the first checkpoint is whole.
  struct Filler : Recorder {
    void on_checkpoint(const std::string& name) override {
      Recorder::on_checkpoint(name);
      if (checkpoints.size() == 1) injection = std::make_unique<testing::FaultInjection>(2, ENOSPC);
    }
    std::unique_ptr<testing::FaultInjection> injection;
  } filler;
  try {
    train(directory, "run", &filler, nullptr, {"logging.tensorboard=false", "logging.every=100"});
    FAIL() << "a run without checkpoints";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("was not written"), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  filler.injection.reset();
  verify_checkpoint(directory / "run/checkpoint-4");
  ASSERT_TRUE(train(directory, "run", nullptr).finished) << "the next start goes on from there";
}

/// A run in a child process, killed at random moments and started again, against one that nobody disturbed. The
/// checkpoints are large enough in number for kills to meet them under way.
TEST(BackgroundCheckpoints, KilledRunsEndWithTheSameBytes) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  const int threads = num_threads();
  set_num_threads(1);
  const std::vector<std::string> often = {"train.steps=30", "checkpoint.every=1", "checkpoint.keep=3"};
  const auto begin = std::chrono::steady_clock::now();
  train(directory, "whole", nullptr, nullptr, often);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
  std::mt19937 random(17);
  int killed = 0, status = -1;
  for (int attempt = 0; attempt < 100 && (status != 0 || killed < 3); ++attempt) {
    if (status == 0) fs::remove_all(directory / "parts");  // it got through too early
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        train(directory, "parts", nullptr, nullptr, often);
      } catch (...) {
        _exit(9);
      }
      _exit(0);
    }
    const int64_t longest = whole.count() * (attempt + 2) / 6;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<uint64_t>(longest)));
    kill(child, SIGKILL);
    int raw = 0;
    waitpid(child, &raw, 0);
    status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    killed += status == 128 + SIGKILL;
    ASSERT_NE(status, 9) << "a run that could not go on";
  }
  set_num_threads(threads);
  ASSERT_EQ(status, 0);
  EXPECT_GE(killed, 3);
  for (const char* name :
       {"final/model.safetensors", "checkpoint-30/optimizer.safetensors", "checkpoint-30/model.safetensors"}) {
    EXPECT_EQ(directory.read(std::string("parts/") + name), directory.read(std::string("whole/") + name)) << name;
  }
  for (const std::string& name : files_of(directory / "parts")) {
    EXPECT_TRUE(!name.starts_with(".") || name == ".lock") << name;
  }
}

}  // namespace
}  // namespace ondol
