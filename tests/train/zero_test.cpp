// Runs whose state is shared out among ranks, against one process that keeps all of it.
#include <gtest/gtest.h>

#include <ondol/models/model.h>

#include "support/error_of.h"
#include "train/rank_runs.h"

namespace ondol {
namespace {

using testing::expect_same_results;
using testing::TemporaryDirectory;
using testing::train_on;

using Settings = std::vector<std::string>;

class Zero : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { testing::write_rank_inputs(directory); }

  /// 12 steps of 6 micro-batches.
  TrainConfig config(const std::string& run, int stage, const Settings& more) const {
    Settings set = {"train.batch_size=6", "train.micro_batch_size=1", concat("parallel.zero_stage=", stage)};
    set.insert(set.end(), more.begin(), more.end());
    return testing::tiny_config(directory, run, set);
  }
  void run(int ranks, const std::string& name, int stage, const Settings& more, int64_t stop = 0) const {
    const auto errors = train_on(
        ranks, [&](int) { return config(name, stage, more); }, stop);
    ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks))) << name;
  }
  /// One process, and these numbers of ranks at the stage that is tested.
  void compare(const Settings& more, const std::vector<int>& ranks) const {
    run(1, "one", 0, more);
    for (const int count : ranks) {
      run(count, concat("on", count), GetParam(), more);
      expect_same_results(directory, "one", concat("on", count));
    }
  }

  TemporaryDirectory directory;
};
INSTANTIATE_TEST_SUITE_P(Stages, Zero, ::testing::Values(1, 2, 3),
                         [](const auto& tested) { return concat("Stage", tested.param); });

TEST_P(Zero, SameBytesAsOneProcess) { compare({}, {1, 2, 4}); }

TEST_P(Zero, SameBytesInBf16WithAverageAndClipping) {
  compare({"train.dtype=bf16", "optimizer.ema_decay=0.5", "train.max_grad_norm=0.1"}, {2, 4});
}

TEST_P(Zero, SameBytesWithOneMicroBatch) { compare({"train.micro_batch_size=6", "optimizer.ema_decay=0.5"}, {2}); }

TEST_P(Zero, SameBytesWithRecomputedLayers) {
  compare({"train.gradient_checkpointing=true", "train.micro_batch_size=2"}, {2});
}

TEST_P(Zero, SameBytesWithGroupsOfLearningRates) {
  compare({"optimizer.type=sgd", "optimizer.momentum=0.9", "optimizer.layer_decay=0.8",
           R"(optimizer.groups=[{"match": "wpe", "learning_rate": 0.1}, {"match": "mlp", "weight_decay": 0.5}])"},
          {2});
}

TEST_P(Zero, SameBytesWithFrozenParameters) {
  compare({"optimizer.type=lion", "train.dtype=bf16", "train.freeze_layers=1"}, {2});
}

TEST_P(Zero, SameBytesWithGradualUnfreezing) {
  compare({R"(train.gradual_unfreezing={"steps": 3})", "optimizer.decay=all"}, {2, 4});
}

TEST_P(Zero, SameBytesWhenStepsAreLeftOut) {
  compare({"optimizer.learning_rate=1e30", "train.max_grad_norm=0", "train.on_non_finite=skip"}, {2});
  EXPECT_NE(directory.read("one/metrics.jsonl").find("\"skipped\":true"), std::string::npos);
}

TEST_P(Zero, SameBytesWithAnAdapter) {
  save_model(*create_model(directory / "model.json", DType::f32, {}, 5), directory / "base");
  compare({"model.config=null", "model.from=" + (directory / "base"), "train.dtype=bf16",
           R"(lora={"rank": 8, "dropout": 0.1, "targets": ["c_attn", "mlp.c_proj"]})"},
          {2, 4});
}

TEST_P(Zero, SameBytesWithATrainedProjectionOfADistillation) {
  const std::string teacher =
      directory.write("teacher.json", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64,
      "n_positions": 35, "n_embd": 24, "n_layer": 1, "n_head": 2, "activation_function": "gelu_new",
      "layer_norm_epsilon": 1e-5, "initializer_range": 0.1})");
  save_model(*create_model(teacher, DType::f32, {}, 5), directory / "teacher");
  compare({concat(R"(objective={"type": "distillation", "inner": {"type": "tensors"}, "teacher": {"path": ")",
                  directory / "teacher", "\"}}")},
          {2});
}

TEST_P(Zero, ARunGoesOnWithOtherStagesAndNumbersOfRanks) {
  for (const Settings& more : {Settings{}, Settings{"train.dtype=bf16", "optimizer.ema_decay=0.5"}}) {
    const std::string whole = more.empty() ? "whole" : "whole16", parts = more.empty() ? "parts" : "parts16";
    run(1, whole, 0, more);
    run(4, parts, GetParam(), more, 4);
    run(2, parts, (GetParam() + 1) % 4, more, 6);
    run(2, parts, 0, more, 8);
    run(3, parts, 1, more, 10);
    run(1, parts, GetParam(), more);
    expect_same_results(directory, whole, parts);
  }
}

/// No power of two: at stage 2 the ranks add up in another order than one process, but always in the same one.
TEST_P(Zero, ThreeRanksGiveTheSameBytesEachTime) {
  run(3, "first", GetParam(), {});
  run(3, "second", GetParam(), {});
  expect_same_results(directory, "first", "second");
  if (GetParam() != 1) return;
  run(1, "one", 0, {});
  expect_same_results(directory, "one", "first");
}

TEST(ZeroConfiguration, OptimizersThatNeedWholeTensorsAreRefused) {
  const TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  for (const char* type : {"lamb", "adafactor"}) {
    const std::string error = testing::error_of([&] {
      testing::tiny_config(directory, "run", {concat("optimizer.type=", type), "parallel.zero_stage=1"});
    });
    EXPECT_NE(error.find(concat("optimizer.type \"", type, "\" needs whole tensors")), std::string::npos) << error;
    EXPECT_NE(error.find("parallel.zero_stage"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace ondol
