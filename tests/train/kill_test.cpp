// The program, killed at random moments and started again, against a run that nobody disturbed.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
const std::string kProgram = ONDOL_BINARY_DIR "/bin/ondol";

pid_t start(const std::string& config, const std::string& output) {
  const pid_t child = fork();
  if (child == 0) {
    execl(kProgram.c_str(), "ondol", "train", config.c_str(), "--output", output.c_str(), "--quiet", "--threads", "1",
          nullptr);
    _exit(127);
  }
  return child;
}

/// Exit status, or 128 + signal.
int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class Kill : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Signals, Kill, ::testing::Values(SIGKILL, SIGTERM, SIGINT));

TEST_P(Kill, RestartedRunIsIdentical) {
  if (!fs::exists(kProgram)) GTEST_SKIP() << "skipped: the program is not built";
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  const TrainConfig config =
      testing::tiny_config(directory, "run", {"train.steps=40", "checkpoint.every=2", "checkpoint.keep=2"});
  const std::string path = directory.write("config.json", config.resolved_json());
  const auto began = std::chrono::steady_clock::now();
  ASSERT_EQ(wait_for(start(path, directory / "whole")), 0);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began);

  std::mt19937 random(static_cast<unsigned>(GetParam()));
  int disturbed = 0, status = -1;
  for (int attempt = 0; attempt < 200 && (status != 0 || disturbed == 0); ++attempt) {
    const pid_t child = start(path, directory / "parts");
    // Short at first; later longer, so that a slow machine gets to the end as well.
    const int64_t longest = whole.count() * (attempt + 2) / 8;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<uint64_t>(longest)));
    kill(child, GetParam());
    status = wait_for(child);
    if (status == 128 + GetParam()) ++disturbed;  // SIGTERM before the handlers are in place ends it too
    if (GetParam() != SIGKILL && status == 0) {
      ++disturbed;
      if (!fs::exists(directory / "parts/final")) status = -1;  // stopped at a step, not finished
    }
  }
  ASSERT_EQ(status, 0);
  EXPECT_GE(disturbed, 1);
  EXPECT_EQ(testing::timeless_metrics(directory / "whole"), testing::timeless_metrics(directory / "parts"));
  EXPECT_EQ(directory.read("whole/final/model.safetensors"), directory.read("parts/final/model.safetensors"));
  EXPECT_EQ(directory.read("whole/checkpoint-40/optimizer.safetensors"),
            directory.read("parts/checkpoint-40/optimizer.safetensors"));
  for (const auto& entry : fs::directory_iterator(directory / "parts")) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(!name.starts_with(".") || name == ".lock") << name;
  }
}

TEST(Signals, WrongConfigurationExitsWithTwo) {
  if (!fs::exists(kProgram)) GTEST_SKIP() << "skipped: the program is not built";
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(wait_for(start(directory.write("c.json", "{\"modle\": {}}"), directory / "run")), 2);
  EXPECT_FALSE(fs::exists(directory / "run"));
}

}  // namespace
}  // namespace ondol
