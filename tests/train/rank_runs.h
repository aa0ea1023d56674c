// Whole runs on several ranks, each a process of the test, and the comparison of what they leave behind.
#pragma once

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/io/safetensors.h>
#include <ondol/train/trainer.h>

#include "support/ranks.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol::testing {

/// The inputs of a tiny run, with layers that are large enough for buckets of their own, which are sent while the
/// backward goes on, and a matrix that no number of ranks divides.
inline void write_rank_inputs(const TemporaryDirectory& directory) {
  write_tiny_inputs(directory);
  directory.write("model.json", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64,
      "n_positions": 35, "n_embd": 96, "n_layer": 2, "n_head": 2, "activation_function": "gelu_new",
      "layer_norm_epsilon": 1e-5, "initializer_range": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
      "attn_pdrop": 0.1})");
}

/// Asks for an end from within step `last`, on one rank.
struct StopWithin : TrainObserver {
  explicit StopWithin(int64_t step) : last(step) {}
  void on_step(const StepMetrics& metrics) override { stop = metrics.step == last - 1; }
  int64_t last;
  std::atomic<bool> stop{false};
};

/// By rank: what went wrong, "" for nothing. With `stop` the last rank gets a signal in that step.
inline std::vector<std::string> train_on(int ranks, const std::function<TrainConfig(int rank)>& config,
                                         int64_t stop = 0) {
  return run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    StopWithin observer(info.rank + 1 == info.size ? stop : 0);
    Trainer trainer(config(info.rank),
                    {.device = "cpu", .stop = &observer.stop, .communicator = world.get(), .observer = &observer});
    const TrainResult result = trainer.run();
    ONDOL_CHECK(result.finished == (stop == 0), "finished is ", result.finished, " at step ", result.step);
    ONDOL_CHECK(stop == 0 || result.step == stop, "stopped at step ", result.step);
    ONDOL_CHECK(!result.directory.empty(), "no directory");
  });
}

/// The same metrics, and the same files with the same bytes in the last checkpoint and in final/, but for what tells of
/// the time and of the configuration.
inline void expect_same_results(const TemporaryDirectory& directory, const std::string& a, const std::string& b) {
  EXPECT_EQ(timeless_metrics(directory / a), timeless_metrics(directory / b)) << b;
  const auto files_of = [&](const std::string& run) {
    std::vector<std::string> files;
    for (const char* part : {"checkpoint-12", "final"}) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(directory / run + "/" + part)) {
        const std::string name = entry.path().filename().string();
        if (!entry.is_regular_file() || name == "trainer_state.json" || name == "manifest.json") continue;
        files.push_back(std::filesystem::relative(entry.path(), directory / run).string());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  };
  const std::vector<std::string> files = files_of(a);
  EXPECT_EQ(files, files_of(b)) << b;
  expect_same_files(directory, a, b, files);
}

/// What the lines of metrics.jsonl have under these keys differs by no more than the tolerance of each, relative.
inline void expect_near_metrics(const TemporaryDirectory& directory, const std::string& got_run,
                                const std::string& wanted_run,
                                const std::vector<std::pair<std::string, double>>& tolerances) {
  const auto got = metrics_of(directory / got_run), wanted = metrics_of(directory / wanted_run);
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    for (const auto& [key, tolerance] : tolerances) {
      ASSERT_EQ(got[i].contains(key), wanted[i].contains(key));
      if (!wanted[i].contains(key)) continue;
      const double value = wanted[i][key];
      EXPECT_NEAR(got[i][key].get<double>(), value, tolerance * value) << key << " in line " << i;
    }
  }
}

/// The weights and the optimizer's state that two runs of 12 steps leave behind: tensors of the same names and shapes,
/// each element within the tolerance.
inline void expect_near_weights(const TemporaryDirectory& directory, const std::string& got_run,
                                const std::string& wanted_run, double tolerance) {
  for (const char* file : {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"}) {
    const SafetensorsFile got(directory / (got_run + "/" + file)), wanted(directory / (wanted_run + "/" + file));
    EXPECT_EQ(got.metadata(), wanted.metadata()) << file;
    ASSERT_EQ(got.entries().size(), wanted.entries().size()) << file;
    for (const auto& entry : wanted.entries()) {
      ASSERT_EQ(got.tensor(entry.name).shape(), wanted.tensor(entry.name).shape()) << entry.name;
      const std::vector<float> a = got.tensor(entry.name).to_vector<float>();
      const std::vector<float> b = wanted.tensor(entry.name).to_vector<float>();
      for (size_t i = 0; i < b.size(); ++i) {
        ASSERT_NEAR(a[i], b[i], tolerance) << entry.name << "[" << i << "] of " << file;
      }
    }
  }
}

}  // namespace ondol::testing
