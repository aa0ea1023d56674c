// A whole run on cuda:0 (the emulated backend), where the host reads results one step late.
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/file.h>

#include "train/tiny_run.h"

namespace ondol {
namespace {

std::vector<nlohmann::json> run_on(const std::string& device, const testing::TemporaryDirectory& directory,
                                   const std::vector<std::string>& overrides = {}) {
  Trainer trainer(testing::tiny_config(directory, device, overrides), {.device = device});
  trainer.run();
  std::vector<nlohmann::json> lines;
  std::istringstream metrics(directory.read(device + "/metrics.jsonl"));
  for (std::string line; std::getline(metrics, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(TrainerOnCuda, WritesTheMetricsOfTheCpuInTheSameOrder) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, 0.1);
  const auto cuda = run_on("cuda:0", directory), cpu = run_on("cpu", directory);
  ASSERT_EQ(cuda.size(), 14u);  // 12 steps and 2 evaluations
  ASSERT_EQ(cpu.size(), 14u);
  for (size_t i = 0; i < cuda.size(); ++i) {
    EXPECT_EQ(cuda[i]["step"], cpu[i]["step"]);
    const char* const loss = cpu[i].contains("loss") ? "loss" : "eval_loss";
    EXPECT_NEAR(cuda[i].at(loss).get<double>(), cpu[i][loss].get<double>(), 1e-4) << i;
    for (const char* key : {"learning_rate", "tokens", "samples", "eval_targets"}) {
      EXPECT_EQ(cuda[i].value(key, 0.0), cpu[i].value(key, 0.0)) << key << " " << i;
    }
  }
}

TEST(TrainerOnCuda, StopsAtTheStepThatWasNotFinite) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  try {
    run_on("cuda:0", directory, {"optimizer.learning_rate=1e30", "train.max_grad_norm=0", "schedule.warmup_steps=0"});
    FAIL() << "a run that diverges";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("training stopped at step "), 0u) << error.what();
    EXPECT_NE(std::string(error.what()).find("no weight was changed"), std::string::npos);
  }
}

}  // namespace
}  // namespace ondol
