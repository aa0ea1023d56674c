// What tests of whole runs share: an observer that keeps what a run tells and can stop it, runs that are interrupted,
// and the comparison of what two runs left behind.
#pragma once

#include <atomic>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/train/trainer.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

/// Asks the run to stop after step `stop_at`; -1: never.
struct RunWatch : TrainObserver {
  explicit RunWatch(int64_t step = -1) : stop_at(step) {}
  void on_start(const RunInfo& info) override { first_step = info.first_step; }
  void on_step(const StepMetrics& metrics) override {
    steps.push_back(metrics);
    losses.push_back(metrics.loss);
    if (metrics.step == stop_at) stop = true;
  }
  void on_evaluation(const EvaluationMetrics& evaluation) override { evaluations.push_back(evaluation); }
  void on_warning(const std::string& text) override { warnings += text + "\n"; }

  /// Of the last evaluation.
  double metric(const std::string& name) const {
    if (evaluations.empty()) throw Error("no evaluation");
    for (const Metric& each : evaluations.back().metrics) {
      if (each.name == name) return each.value;
    }
    throw Error("no metric " + name);
  }

  /// For the next run: what it tells is added to what was told before.
  TrainerOptions watched(const std::string& output = "", int64_t step = -1) {
    stop_at = step;
    stop = false;
    return {.output = output, .device = "cpu", .stop = &stop, .observer = this};
  }

  int64_t stop_at, first_step = 0;
  std::atomic<bool> stop{false};
  std::vector<StepMetrics> steps;
  std::vector<double> losses;
  std::vector<EvaluationMetrics> evaluations;
  std::string warnings;
};

/// Runs `config` and stops after each of these steps in turn; then to its end.
inline void run_in_parts(const TrainConfig& config, const std::vector<int64_t>& stops) {
  for (const int64_t step : stops) {
    RunWatch watch(step);
    EXPECT_FALSE(Trainer(config, {.device = "cpu", .stop = &watch.stop, .observer = &watch}).run().finished) << step;
  }
  EXPECT_TRUE(Trainer(config, {.device = "cpu"}).run().finished);
}

/// Each file is in both run directories, with the same bytes.
inline void expect_same_files(const TemporaryDirectory& directory, const std::string& a, const std::string& b,
                              const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const std::string bytes = directory.read(a + "/" + file);
    EXPECT_FALSE(bytes.empty()) << a << " has no " << file;
    EXPECT_TRUE(bytes == directory.read(b + "/" + file)) << file << " of " << a << " and " << b;
  }
}

/// The lines of its metrics.jsonl.
inline std::vector<nlohmann::json> metrics_of(const std::string& run) {
  std::vector<nlohmann::json> lines;
  std::ifstream in(run + "/metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// The metrics without what depends on the clock.
inline std::string timeless_metrics(const std::string& run) {
  std::string text;
  for (nlohmann::json line : metrics_of(run)) {
    for (const char* key :
         {"seconds", "data_seconds", "checkpoint_seconds", "tokens_per_second", "mfu", "eval_seconds", "ranks"})
      line.erase(key);
    text += line.dump() + "\n";
  }
  return text;
}

/// Two runs of 12 steps gave the same.
inline void expect_same_run(const TemporaryDirectory& directory, const std::string& a, const std::string& b) {
  EXPECT_EQ(timeless_metrics(directory / a), timeless_metrics(directory / b));
  expect_same_files(directory, a, b, {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
}

}  // namespace ondol::testing
