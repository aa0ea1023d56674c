// Runs whose models are split over ranks (parallel.tensor) and whose state is shared out among the ranks with the same
// part of a model (parallel.zero_stage).
#include <cmath>

#include <gtest/gtest.h>

#include "train/model_setup.h"
#include "train/rank_runs.h"

namespace ondol {
namespace {

using testing::expect_same_results;
using testing::run_ranks;
using testing::TemporaryDirectory;

using Settings = std::vector<std::string>;

/// Sizes are such that what a rank keeps of a matrix begins and ends within its rows.
constexpr const char* kLlama =
    R"({"model_type":"llama","vocab_size":64,"hidden_size":40,"intermediate_size":72,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":2,"head_dim":12,"initializer_range":0.1,)"
    R"("max_position_embeddings":32,"attention_bias":true,"tie_word_embeddings":false})";
constexpr const char* kFourHeads =
    R"({"model_type":"llama","vocab_size":64,"hidden_size":32,"intermediate_size":160,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":4,"initializer_range":0.1,"max_position_embeddings":32,)"
    R"("tie_word_embeddings":true})";
constexpr const char* kGpt2 =
    R"({"model_type":"gpt2","architectures":["GPT2LMHeadModel"],"vocab_size":64,"n_positions":32,"n_embd":40,)"
    R"("n_layer":2,"n_head":2,"activation_function":"gelu_new","layer_norm_epsilon":1e-5,"initializer_range":0.1,)"
    R"("resid_pdrop":0.1,"embd_pdrop":0.1,"attn_pdrop":0.1})";
constexpr const char* kT5 =
    R"({"model_type":"t5","architectures":["T5ForConditionalGeneration"],"vocab_size":64,"d_model":40,"d_kv":12,)"
    R"("d_ff":72,"num_layers":2,"num_heads":4,"relative_attention_num_buckets":8,"dropout_rate":0.1,)"
    R"("relative_attention_max_distance":12,"pad_token_id":0,"eos_token_id":1,"decoder_start_token_id":0})";

/// 12 steps of 4 micro-batches.
class TensorZero : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    testing::write_tiny_inputs(directory);
    directory.write("model.json", kLlama);
  }
  TrainConfig config(const std::string& run, int tensor, int stage, Settings more) const {
    more.insert(more.end(), {"train.micro_batch_size=1", concat("parallel.tensor=", tensor),
                             concat("parallel.zero_stage=", stage)});
    return testing::tiny_config(directory, run, more);
  }
  void run(int data, int tensor, const std::string& name, int stage, const Settings& more = {},
           int64_t stop = 0) const {
    if (data * tensor == 1 && stop > 0) {  // stops behind the step in which it is asked to
      testing::RunWatch watch(stop);
      const TrainResult result = Trainer(config(name, tensor, stage, more), watch.watched("", stop)).run();
      ASSERT_EQ(result.step, stop) << name;
      return;
    }
    const auto errors = testing::train_on(
        data * tensor, [&](int) { return config(name, tensor, stage, more); }, stop);
    ASSERT_EQ(errors, Settings(static_cast<size_t>(data * tensor))) << name;
  }
  /// One model on `tensor` ranks that keep all of their parts, and several models at the stage that is tested.
  void compare(int tensor, const std::vector<int>& counts, const Settings& more = {}) const {
    run(1, tensor, "alone", 0, more);
    for (const int data : counts) {
      const std::string name = concat("on", data);
      run(data, tensor, name, GetParam(), more);
      expect_same_results(directory, "alone", name);
    }
  }

  TemporaryDirectory directory;
};
INSTANTIATE_TEST_SUITE_P(Stages, TensorZero, ::testing::Values(1, 2, 3),
                         [](const auto& tested) { return concat("Stage", tested.param); });

TEST_P(TensorZero, SameBytesAsOneModelThatKeepsAll) { compare(2, {2, 4}); }

TEST_P(TensorZero, SameBytesInBf16WithAverageAndClipping) {
  compare(2, {2}, {"train.dtype=bf16", "optimizer.ema_decay=0.5", "train.max_grad_norm=0.1"});
}

TEST_P(TensorZero, SameBytesWithTransposedTensorsInTheFiles) {
  directory.write("model.json", kGpt2);
  compare(2, {2}, {"train.dtype=bf16", "evaluation.keep_best=true"});
}

TEST_P(TensorZero, SameBytesOfAnEncoderDecoder) {
  directory.write("model.json", kT5);
  compare(2, {2, 4}, {"train.max_grad_norm=0.1"});
}

TEST_P(TensorZero, SameBytesOnFourRanksForEachModel) {
  directory.write("model.json", kFourHeads);
  compare(4, {2}, {"train.gradient_checkpointing=true"});
}

TEST_P(TensorZero, SameBytesWithFrozenAndGroupedParameters) {
  compare(2, {2},
          {"optimizer.type=lion", "train.freeze_layers=1", "optimizer.layer_decay=0.8",
           R"(optimizer.groups=[{"match": "mlp", "weight_decay": 0.5}])"});
}

/// With fewer micro-batches than models.
TEST_P(TensorZero, SameBytesWithOneMicroBatch) {
  run(1, 2, "alone", 0, {"train.batch_size=1"});
  run(2, 2, "on2", GetParam(), {"train.batch_size=1"});
  expect_same_results(directory, "alone", "on2");
}

TEST_P(TensorZero, ARunGoesOnWithOtherStagesAndNumbersOfModels) {
  for (const Settings& more : {Settings{}, Settings{"train.dtype=bf16", "optimizer.ema_decay=0.5"}}) {
    const std::string whole = more.empty() ? "whole" : "whole16", parts = more.empty() ? "parts" : "parts16";
    run(1, 2, whole, 0, more);
    run(2, 2, parts, GetParam(), more, 4);
    run(1, 2, parts, GetParam(), more, 6);
    run(2, 2, parts, (GetParam() + 1) % 4, more, 8);
    run(4, 2, parts, GetParam(), more, 10);
    run(2, 2, parts, 0, more);
    expect_same_results(directory, whole, parts);
  }
}

/// Other numbers of ranks for each model round otherwise.
TEST_P(TensorZero, ARunGoesOnWithAnyOtherGrid) {
  run(1, 1, "one", 0);
  run(2, 2, "parts", GetParam(), {}, 4);
  run(1, 1, "parts", 0, {}, 6);
  run(1, 2, "parts", GetParam(), {}, 8);
  run(2, 1, "parts", GetParam(), {}, 10);
  run(2, 2, "parts", 0);
  testing::expect_near_metrics(directory, "parts", "one", {{"loss", 2e-6}, {"grad_norm", 1e-5}, {"eval_loss", 2e-6}});
  testing::expect_near_weights(directory, "parts", "one", 2e-4);
}

TEST_P(TensorZero, EachRankKeepsAShareOfItsPart) {
  const auto errors = run_ranks(4, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    const RankGrid grid(world.get(), 2);
    const TrainingModel all = make_training_model(config("run", 2, 0, {}), "cpu", "", grid);
    const TrainingModel shared = make_training_model(config("run", 2, GetParam(), {}), "cpu", "", grid);
    const auto moment = [](const TrainingModel& made) { return made.optimizer->state().front().second.numel(); };
    const auto share = static_cast<double>(moment(shared)) / static_cast<double>(moment(all));
    ONDOL_CHECK(share > 0.5 && share < 0.6, share, " of the optimizer's state");
    ONDOL_CHECK((shared.values != nullptr) == (GetParam() == 3), "values");
  });
  EXPECT_EQ(errors, Settings(4));
  const auto memory_of = [&](int stage) {
    return Trainer(config("dry", 2, stage, {"parallel.data=2"}), {.device = "cpu"}).dry_run().rank;
  };
  const RankMemory all = memory_of(0), shared = memory_of(GetParam());
  EXPECT_EQ(shared.ranks, 4);
  EXPECT_LT(shared.optimizer_bytes, all.optimizer_bytes * 6 / 10);
}

}  // namespace
}  // namespace ondol
