// Whole runs on several ranks, each a process of the test, and the comparison of what they leave behind.
#pragma once

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

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

}  // namespace ondol::testing
