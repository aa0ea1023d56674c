// Steps of a model that is split over processes, against one process.
#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>
#include <ondol/models/tensor_parallel.h>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/rank_grid.h"
#include "train/training_step.h"

namespace ondol {
namespace {

using testing::run_ranks;
using testing::TemporaryDirectory;

constexpr const char* kLlama =
    R"({"model_type":"llama","vocab_size":64,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":2,"initializer_range":0.1,"max_position_embeddings":32,)"
    R"("attention_bias":true,"tie_word_embeddings":true})";

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

}  // namespace
}  // namespace ondol
