// Values that are not finite on one of several ranks end the run, or leave the step out, on all of them before a weight
// changes; the samples and the rank are named.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <ondol/train/checkpoint.h>
#include <ondol/train/objective.h>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/model_setup.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"
#include "train/training_step.h"

namespace ondol {
namespace {

using testing::run_ranks;
using testing::TemporaryDirectory;

constexpr int32_t kPoison = 63;  // the token whose embedding is not a number
constexpr int64_t kSample = 14;  // which has it

/// Input and output embeddings are apart, so that only samples with the token are touched.
void write_inputs(const TemporaryDirectory& directory) {
  const std::string config = directory.write("llama.json", R"({"model_type": "llama",
      "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24,
      "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
      "rms_norm_eps": 1e-5, "tie_word_embeddings": false})");
  const auto model = create_model(config, DType::f32, {}, 3);
  for (const auto& entry : model->parameters().entries()) {
    if (entry.name.find("embed_tokens") == std::string::npos) continue;
    entry.variable.value().narrow(0, kPoison, 1).fill(std::numeric_limits<double>::quiet_NaN());
  }
  save_model(*model, directory / "poisoned");
  for (const auto& [name, rows] : {std::pair{"train", 24}, std::pair{"valid", 6}}) {
    std::vector<int32_t> ids;
    for (int i = 0; i < rows * 16; ++i) ids.push_back(static_cast<int32_t>(philox_word({1, 0, 0}, i) % kPoison));
    if (rows == 24) ids[kSample * 16 + 3] = kPoison;
    const Tensor tensor = Tensor::from_vector(ids, {rows, 16});
    write_safetensors(directory / (std::string(name) + ".safetensors"), {{"input_ids", tensor}, {"labels", tensor}});
  }
}

/// The sample is in step 4, the last but one of four micro-batches; and again in step 10, an epoch later.
TrainConfig config_of(const TemporaryDirectory& directory, const std::string& run, const std::string& policy,
                      int stage = 0) {
  TrainConfig config = testing::tiny_config(
      directory, run,
      {"train.on_non_finite=" + policy, concat("parallel.zero_stage=", stage), "train.micro_batch_size=1",
       "data.shuffle=false", "checkpoint.every=1", "checkpoint.background=false"});
  config.model = {.config = "", .from = directory / "poisoned"};
  return config;
}

/// Of all parameters, which are f32.
std::string weights_of(const Model& model) {
  std::string bytes;
  for (const auto& entry : model.parameters().entries()) {
    const std::vector<float> values = entry.variable.value().to_vector<float>();
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  return bytes;
}

struct Processes {
  int ranks, stage, computing;  // the last one: the rank that computes the micro-batch
};

class NonFiniteOnOneRank : public ::testing::TestWithParam<Processes> {
 protected:
  void SetUp() override { write_inputs(directory); }
  TemporaryDirectory directory;
};
INSTANTIATE_TEST_SUITE_P(Ranks, NonFiniteOnOneRank,
                         ::testing::Values(Processes{1, 0, 0}, Processes{2, 0, 1}, Processes{3, 0, 1},
                                           Processes{4, 0, 2}, Processes{2, 2, 0}, Processes{4, 2, 2}),
                         [](const auto& tested) {
                           return concat("On", tested.param.ranks, "Stage", tested.param.stage);
                         });

TEST_P(NonFiniteOnOneRank, StopsAllBeforeTheUpdateAndIsNamed) {
  const auto errors =
      run_ranks(GetParam().ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
        const auto world = make_communicator(info, meeting);
        Trainer trainer(config_of(directory, "run", "stop", GetParam().stage),
                        {.device = "cpu", .communicator = world.get()});
        std::string message;
        try {
          trainer.run();
        } catch (const Error& error) {
          message = error.what();
        }
        const std::string weights = weights_of(trainer.model());
        if (info.rank == 0) {
          const auto before = load_model(directory / "run/checkpoint-3", {.device = "cpu"});
          ONDOL_CHECK(weights == weights_of(*before), "a weight was changed");
        }
        throw Error(concat(message, " weights ", std::hash<std::string>()(weights)));
      });
  const std::string where = GetParam().ranks == 1 ? "" : concat(", on rank ", GetParam().computing);
  for (const std::string& error : errors) {
    EXPECT_EQ(error, errors[0]);
    EXPECT_TRUE(error.starts_with("training stopped at step 4: loss ")) << error;
    EXPECT_NE(error.find(concat(" (samples 12 to 15 of the training data; first not finite: samples 14 to 14", where,
                                "; no weight was changed)")),
              std::string::npos)
        << error;
  }
}

TEST_P(NonFiniteOnOneRank, IsLeftOutByAll) {
  const auto errors =
      run_ranks(GetParam().ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
        const auto world = make_communicator(info, meeting);
        testing::RunWatch watch;
        Trainer(config_of(directory, "run", "skip", GetParam().stage),
                {.device = "cpu", .communicator = world.get(), .observer = &watch})
            .run();
        for (const StepMetrics& step : watch.steps) {
          ONDOL_CHECK(step.skipped == (step.step == 4 || step.step == 10), "step ", step.step);
        }
        ONDOL_CHECK(watch.warnings.find("left out step 10: loss ") != std::string::npos, watch.warnings);
        ONDOL_CHECK(watch.warnings.find("first not finite: samples 38 to 38") != std::string::npos, watch.warnings);
      });
  ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(GetParam().ranks)));
  Trainer(config_of(directory, "alone", "skip"), {.device = "cpu"}).run();
  testing::expect_same_run(directory, "alone", "run");
}

/// Its losses are finite; the gradient of a micro-batch with the token is not, on ranks that are `poisoned`.
class PoisonedGradient final : public Objective {
 public:
  explicit PoisonedGradient(bool poisoned) : poisoned_(poisoned) {}
  std::string settings() const override { return R"({"type":"poisoned"})"; }
  std::vector<Variable> losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                               const ForwardContext& context) const override {
    std::vector<Variable> terms = Objective::losses(model, rows, scales, context);
    const std::vector<int32_t> ids = rows.input_ids.to_vector<int32_t>();
    if (!poisoned_ || std::find(ids.begin(), ids.end(), kPoison) == ids.end()) return terms;
    Tape::current()->record([&model] {
      const Variable& parameter = model.parameters().entries().back().variable;
      parameter.add_grad(Tensor::full(parameter.value().shape(), std::numeric_limits<double>::infinity()));
    });
    return terms;
  }

 private:
  const bool poisoned_;
};

/// Five micro-batches of one sample, of which `poisoned` have the token; the ranks from `from` on spoil their gradient.
struct GradientCase {
  int ranks, tensor, stage;
  std::vector<int> poisoned;
  int from;
  GradientResult::NotFinite wanted;
};

class NonFiniteGradient : public ::testing::TestWithParam<GradientCase> {};
INSTANTIATE_TEST_SUITE_P(
    Ranks, NonFiniteGradient,
    ::testing::Values(GradientCase{2, 1, 0, {4}, 0, {1, 4, 1}}, GradientCase{2, 1, 0, {2}, 0, {0, 0, 4}},
                      GradientCase{4, 1, 0, {3}, 0, {1, 2, 2}}, GradientCase{4, 1, 1, {3, 4}, 0, {1, 2, 2}},
                      GradientCase{3, 1, 1, {2, 3}, 0, {1, 2, 2}}, GradientCase{2, 1, 2, {3}, 0, {1, 3, 1}},
                      GradientCase{4, 1, 2, {4}, 0, {0, 4, 1}}, GradientCase{3, 1, 3, {4, 2}, 0, {2, 2, 1}},
                      GradientCase{4, 2, 0, {4}, 0, {2, 4, 1}}, GradientCase{4, 2, 1, {4}, 3, {3, 4, 1}},
                      GradientCase{4, 2, 2, {1, 2}, 1, {2, 1, 1}}, GradientCase{4, 2, 3, {2}, 1, {1, 2, 1}}),
    [](const auto& tested) {
      return concat("Case", tested.index, "On", tested.param.ranks, "Tensor", tested.param.tensor, "Stage",
                    tested.param.stage);
    });

TEST_P(NonFiniteGradient, ChangesNoWeightAndTheFirstRankIsNamed) {
  const TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const GradientCase& c = GetParam();
  const auto errors = run_ranks(c.ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    const RankGrid grid(world.get(), c.tensor);
    TrainConfig config = testing::tiny_config(
        directory, "run", {concat("parallel.tensor=", c.tensor), concat("parallel.zero_stage=", c.stage)});
    const TrainingModel made = make_training_model(config, "cpu", "", grid);
    TrainingStep step(*made.model, *made.optimizer, {.seed = 1, .max_grad_norm = 1.0}, grid, made.sharding,
                      made.values.get());
    const PoisonedGradient objective(info.rank >= c.from);
    const auto run = [&](bool poisoned, int64_t number) {
      std::vector<int32_t> ids(5 * 8, 5);
      for (const int sample : c.poisoned) ids[static_cast<size_t>(sample * 8 + 3)] = poisoned ? kPoison : 7;
      Batch batch;
      batch.input_ids = batch.labels = Tensor::from_vector(ids, {5, 8});
      batch.labels_shifted = false;
      batch = objective.prepare(std::move(batch), {.model = *made.model});
      step.start(objective, batch, {.micro_batch_size = 1, .step = number, .learning_rate = 0.1});
      return step.wait();
    };
    const auto weights = [&] {
      const ValueShards::Whole whole(made.values.get());
      return weights_of(*made.model);
    };
    const std::string before = weights();
    for (int64_t number = 1; number <= 4; number += 2) {  // before and after the order of the layers is known
      const GradientResult poisoned = run(true, number);
      ONDOL_CHECK(std::isfinite(poisoned.loss) && !std::isfinite(poisoned.grad_norm), poisoned.loss);
      ONDOL_CHECK(poisoned.not_finite.has_value(), "no rank is named");
      const GradientResult::NotFinite& got = *poisoned.not_finite;
      ONDOL_CHECK(got.rank == c.wanted.rank && got.first == c.wanted.first && got.count == c.wanted.count, "rank ",
                  got.rank, ", micro-batches from ", got.first, ", ", got.count, " of them");
      ONDOL_CHECK(number > 1 || weights() == before, "a weight was changed");
      const GradientResult good = run(false, number + 1);
      ONDOL_CHECK(good.finite() && !good.not_finite && weights() != before, "the next step does not train");
    }
  });
  EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(c.ranks)));
}

/// Embeddings of zeros in a stream that nothing else is added to: the norm behind it multiplies gradients, which the
/// output projection makes large, by more than f32 holds.
TEST(NonFiniteGradientOfARun, NamesSamplesAndRank) {
  const TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::string config = directory.write("llama.json", R"({"model_type": "llama",
      "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24,
      "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32,
      "rms_norm_eps": 1e-37, "tie_word_embeddings": false, "initializer_range": 0.1})");
  const auto model = create_model(config, DType::f32, {}, 3);
  for (const auto& entry : model->parameters().entries()) {
    const Tensor values = entry.variable.value();
    if (entry.name.find("embed_tokens") != std::string::npos) values.narrow(0, kPoison, 1).zero();
    if (entry.name.find("o_proj") != std::string::npos || entry.name.find("down_proj") != std::string::npos) {
      values.zero();
    }
    if (entry.name.find("lm_head") != std::string::npos) {
      std::vector<float> large = values.to_vector<float>();
      for (float& value : large) value *= 1e23f;
      values.copy_from(Tensor::from_vector(large, values.shape()));
    }
  }
  save_model(*model, directory / "steep");
  std::vector<int32_t> ids;
  for (int i = 0; i < 24 * 16; ++i) ids.push_back(static_cast<int32_t>(philox_word({1, 0, 0}, i) % kPoison));
  ids[2 * 16 + 3] = kPoison;
  const Tensor rows = Tensor::from_vector(ids, {24, 16});
  write_safetensors(directory / "train.safetensors", {{"input_ids", rows}, {"labels", rows}});
  struct Case {
    int ranks, tensor, stage;
    const char* wanted;
  };
  for (const Case& c :
       {Case{1, 1, 0, "; the loss of each micro-batch is finite; no weight"},
        Case{2, 1, 0, " is finite, first gradient that is not: samples 2 to 3, on rank 1; no weight"},
        Case{2, 1, 2, " is finite, first gradient that is not: samples 2 to 2, on rank 0; no weight"},
        Case{4, 2, 1, " is finite, first gradient that is not: samples 2 to 3, on rank 2; no weight"}}) {
    const auto errors = run_ranks(c.ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
      const auto world = make_communicator(info, meeting);
      TrainConfig run =
          testing::tiny_config(directory, concat("run", c.ranks, c.tensor, c.stage),
                               {"train.micro_batch_size=1", "data.shuffle=false", "evaluation.every=0",
                                concat("parallel.tensor=", c.tensor), concat("parallel.zero_stage=", c.stage)});
      run.model = {.config = "", .from = directory / "steep"};
      Trainer(run, {.device = "cpu", .communicator = info.size > 1 ? world.get() : nullptr}).run();
    });
    for (const std::string& error : errors) {
      EXPECT_TRUE(error.starts_with("training stopped at step 1: loss ")) << error;
      EXPECT_NE(error.find(c.wanted), std::string::npos) << error;
    }
  }
}

}  // namespace
}  // namespace ondol
