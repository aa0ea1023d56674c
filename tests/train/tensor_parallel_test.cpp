// Steps of a model that is split over processes, against one process.
#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>
#include <ondol/models/tensor_parallel.h>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/rank_grid.h"
#include "train/rank_runs.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"
#include "train/training_step.h"

namespace ondol {
namespace {

using testing::run_ranks;
using testing::TemporaryDirectory;

constexpr const char* kLlama =
    R"({"model_type":"llama","vocab_size":64,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":2,"initializer_range":0.1,"max_position_embeddings":32,)"
    R"("attention_bias":true,"tie_word_embeddings":true})";

constexpr const char* kGpt2WithDropout =
    R"({"model_type":"gpt2","vocab_size":64,"n_positions":32,"n_embd":32,"n_layer":2,"n_head":4,)"
    R"("initializer_range":0.1,"embd_pdrop":0.1,"resid_pdrop":0.1,"attn_pdrop":0.1})";

constexpr const char* kBert =
    R"({"model_type":"bert","architectures":["BertForMaskedLM"],"vocab_size":64,"hidden_size":32,)"
    R"("num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":48,"max_position_embeddings":32,)"
    R"("initializer_range":0.1,"hidden_dropout_prob":0.1,"attention_probs_dropout_prob":0.1})";
constexpr const char* kT5 =
    R"({"model_type":"t5","architectures":["T5ForConditionalGeneration"],"vocab_size":64,"d_model":32,"d_kv":8,)"
    R"("d_ff":48,"num_layers":2,"num_heads":4,"relative_attention_num_buckets":8,)"
    R"("relative_attention_max_distance":12,"dropout_rate":0.1,"pad_token_id":0,"eos_token_id":1,)"
    R"("decoder_start_token_id":0})";

Batch batch_of(int64_t step) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 6 * 15; ++i)
    ids.push_back(static_cast<int32_t>(philox_word({3, 0, static_cast<uint32_t>(step)}, i) % 64));
  Batch batch;
  batch.input_ids = batch.labels = Tensor::from_vector(ids, {6, 15});
  return batch;
}

struct Step {
  double loss, norm;
};

std::vector<Step> train(const std::string& config, const RankGrid& grid) {
  const auto model =
      create_model(config, DType::f32, Device{}, 5, [&](Model& made) { split_model(made, grid.place()); });
  const auto optimizer = make_optimizer({.weight_decay = 0.1}, model->parameters());
  const auto objective = make_objective(std::string(R"({"type":"clm"})"));
  TrainingStep step(*model, *optimizer, {.seed = 1, .max_grad_norm = 0.5}, grid);
  std::vector<Step> steps;
  for (int64_t number = 1; number <= 12; ++number) {
    const Batch batch = objective->prepare(batch_of(number), {.model = *model, .seed = 1, .step = number});
    step.start(*objective, batch, {.micro_batch_size = 1, .step = number, .learning_rate = 3e-3});
    const GradientResult result = step.wait();
    steps.push_back({result.loss, result.grad_norm});
  }
  const std::vector<double> last =
      mean_losses(*model, *objective, objective->prepare(batch_of(99), {.model = *model}), 2, grid.data());
  steps.push_back({last[0], 0.0});
  return steps;
}

TEST(TensorParallelSteps, AreThoseOfOneProcess) {
  const TemporaryDirectory directory;
  const std::string config = directory.write("config.json", kLlama);
  const std::vector<Step> wanted = train(config, RankGrid());
  for (const auto& [ranks, tensor] : {std::pair{2, 2}, {4, 2}, {2, 1}, {6, 2}}) {
    const auto errors =
        run_ranks(ranks, [&, tensor = tensor](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
          const auto world = make_communicator(info, meeting);
          const RankGrid grid(world.get(), tensor);
          ONDOL_CHECK(grid.tensor() == tensor && grid.data().size() == info.size / tensor, "a grid of another shape");
          const std::vector<Step> got = train(config, grid);
          // What the groups have done counts, not only what all ranks did together.
          ONDOL_CHECK((grid.statistics().collectives > world->statistics().collectives) == (tensor > 1),
                      "statistics of ", grid.statistics().collectives, " collectives");
          for (size_t i = 0; i < wanted.size(); ++i) {
            const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); };
            ONDOL_CHECK(near(got[i].loss, wanted[i].loss), "step ", i + 1, ": loss ", got[i].loss, ", not ",
                        wanted[i].loss);
            ONDOL_CHECK(std::abs(got[i].norm - wanted[i].norm) <= 3e-6 * wanted[i].norm, "step ", i + 1, ": norm ",
                        got[i].norm, ", not ", wanted[i].norm);
          }
        });
    EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks))) << ranks << " ranks, tensor " << tensor;
  }
}

class TensorParallelRuns : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_inputs(directory);
    directory.write("model.json", kLlama);
  }

  /// By rank: what went wrong. With `stop` the last rank asks for an end after that step.
  std::vector<std::string> train_on(int ranks, int tensor, const std::string& run, int64_t stop = 0,
                                    std::vector<std::string> overrides = {}) const {
    overrides.push_back(concat("parallel.tensor=", tensor));
    return run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
      const auto world = make_communicator(info, meeting);
      testing::RunWatch watch(info.rank + 1 == info.size && stop > 0 ? stop - 1 : -1);
      const TrainResult result = Trainer(testing::tiny_config(directory, run, overrides),
                                         {.device = "cpu",
                                          .stop = &watch.stop,
                                          .communicator = info.size > 1 ? world.get() : nullptr,
                                          .observer = &watch})
                                     .run();
      ONDOL_CHECK(stop > 0 || result.finished, "ended at step ", result.step);
    });
  }

  /// Losses, norms and evaluations within 1e-6 relative (norms 3e-6).
  void expect_near_run(const std::string& got, const std::string& wanted) const {
    testing::expect_near_metrics(directory, got, wanted, {{"loss", 1e-6}, {"grad_norm", 3e-6}, {"eval_loss", 1e-6}});
  }

  /// On several grids, and going on from one to another; what is left behind lies as one process leaves it.
  void expect_runs_of_one_process(std::vector<std::string> settings = {}) const {
    settings.push_back("optimizer.learning_rate=1e-3");
    settings.push_back("optimizer.eps=1e-5");  // biases of keys have no gradient but rounding: they are to stay
    const auto run = [&](int ranks, int tensor, const std::string& name, int64_t stop = 0) {
      ASSERT_EQ(train_on(ranks, tensor, name, stop, settings), std::vector<std::string>(static_cast<size_t>(ranks)));
    };
    run(1, 1, "one");
    run(2, 2, "two");
    run(4, 2, "four");
    run(4, 2, "parts", 4);
    run(1, 1, "parts", 6);
    run(2, 2, "parts");
    for (const char* name : {"two", "four", "parts"}) {
      expect_near_run(name, "one");
      testing::expect_near_weights(directory, name, "one", 2e-4);
    }
  }

  TemporaryDirectory directory;
};

TEST_F(TensorParallelRuns, AreThoseOfOneProcess) {
  struct Case {
    const char *dtype, *setting;
    double tolerance;  // of weights and moments
  };
  for (const Case& c : {Case{"f32", "optimizer.ema_decay=0.9", 2e-4}, {"bf16", "evaluation.keep_best=true", 0.1}}) {
    const std::vector<std::string> overrides = {concat("train.dtype=", c.dtype), c.setting};
    const std::string one = concat("one-", c.dtype);
    ASSERT_EQ(train_on(1, 1, one, 0, overrides), std::vector<std::string>(1));
    for (const auto& [ranks, tensor] : {std::pair{2, 2}, {4, 2}}) {
      const std::string run = concat(c.dtype, ranks);
      ASSERT_EQ(train_on(ranks, tensor, run, 0, overrides), std::vector<std::string>(static_cast<size_t>(ranks)));
      if (std::string(c.dtype) == "f32") expect_near_run(run, one);
      testing::expect_near_weights(directory, run, one, c.tolerance);
    }
  }
}

TEST_F(TensorParallelRuns, DropWhatOneProcessDrops) {
  directory.write("model.json", kGpt2WithDropout);
  expect_runs_of_one_process();
}

TEST_F(TensorParallelRuns, OfMaskedLanguageModels) {
  directory.write("model.json", kBert);
  for (const char* name : {"train", "valid"}) {  // without labels: the objective chooses its own
    const SafetensorsFile given(directory / (std::string(name) + ".safetensors"));
    const Tensor ids = given.tensor("input_ids").clone();
    write_safetensors(directory / (std::string(name) + ".safetensors"), {{"input_ids", ids}});
  }
  expect_runs_of_one_process({R"(objective={"type":"mlm","mask_token_id":4,"probability":0.2,"random_fraction":0.0})"});
}

TEST_F(TensorParallelRuns, OfEncoderDecoders) {
  directory.write("model.json", kT5);
  expect_runs_of_one_process();
  const std::vector<std::string> shared = {"optimizer.learning_rate=1e-3", "optimizer.eps=1e-5",
                                           "parallel.zero_stage=3"};
  ASSERT_EQ(train_on(4, 2, "shared", 0, shared), std::vector<std::string>(4));
  expect_near_run("shared", "one");
  testing::expect_near_weights(directory, "shared", "one", 2e-4);
}

/// Exactly what was saved is gone on with: ranks that are added or taken away change nothing of it.
TEST_F(TensorParallelRuns, GoOnWithAnyOtherGrid) {
  ASSERT_EQ(train_on(1, 1, "one"), std::vector<std::string>(1));
  ASSERT_EQ(train_on(4, 2, "parts", 4), std::vector<std::string>(4));
  ASSERT_EQ(train_on(1, 1, "parts", 6), std::vector<std::string>(1));
  ASSERT_EQ(train_on(2, 2, "parts", 8), std::vector<std::string>(2));
  ASSERT_EQ(train_on(2, 1, "parts", 10), std::vector<std::string>(2));
  ASSERT_EQ(train_on(2, 2, "parts"), std::vector<std::string>(2));
  expect_near_run("parts", "one");
  testing::expect_near_weights(directory, "parts", "one", 2e-4);
}

/// The number of data-parallel ranks changes no byte; neither does saving and going on.
TEST_F(TensorParallelRuns, HaveTheSameBytesForAnyNumberOfDataRanks) {
  ASSERT_EQ(train_on(2, 2, "two"), std::vector<std::string>(2));
  ASSERT_EQ(train_on(4, 2, "four"), std::vector<std::string>(4));
  testing::expect_same_run(directory, "two", "four");
  ASSERT_EQ(train_on(4, 2, "parts", 5), std::vector<std::string>(4));
  ASSERT_EQ(train_on(2, 2, "parts"), std::vector<std::string>(2));
  testing::expect_same_run(directory, "two", "parts");
}

TEST_F(TensorParallelRuns, ADryRunTellsWhatOneOfThemHolds) {
  const auto memory_of = [&](const std::vector<std::string>& overrides) {
    return Trainer(testing::tiny_config(directory, "dry", overrides), {.device = "cpu"}).dry_run().rank;
  };
  const RankMemory one = memory_of({}), two = memory_of({"parallel.tensor=2", "parallel.data=2"});
  EXPECT_EQ(two.ranks, 4);
  // Matrices of the layers are halved, the embedding of 64 x 32 and the norms are not.
  EXPECT_LT(two.parameter_bytes, one.parameter_bytes * 7 / 10);
  EXPECT_GT(two.parameter_bytes, one.parameter_bytes / 2);
}

TEST_F(TensorParallelRuns, WhatDoesNotGoTogetherIsRefused) {
  const auto error = [&](int ranks, int tensor, const std::vector<std::string>& overrides) {
    return train_on(ranks, tensor, "refused", 0, overrides).front();
  };
  EXPECT_EQ(error(2, 2, {"optimizer.type=lamb"}),
            "parallel.tensor is 2: it cannot be combined with optimizer.type lamb");
  EXPECT_EQ(error(2, 2, {R"(objective={"type":"rtd"})"}),
            "parallel.tensor is 2: it cannot be combined with objective.type rtd");
  EXPECT_EQ(error(2, 2, {R"(objective={"type":"mlm","masking":"span","span_boundary":true})"}),
            "parallel.tensor is 2: it cannot be combined with objective.span_boundary");
  EXPECT_EQ(error(3, 2, {}), "parallel.tensor is 2, the run has 3 processes");
  EXPECT_EQ(error(4, 2, {"parallel.data=4"}), "parallel.tensor is 2 and parallel.data is 4, the run has 4 processes");
  EXPECT_EQ(error(4, 4, {}),
            "the model cannot be split over 4 processes: they do not divide num_key_value_heads, which is 2");
}

}  // namespace
}  // namespace ondol
