// Whole training runs against what PyTorch did in float64 from the same weights with the same batches.
#include <algorithm>
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/train/trainer.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

class GoldenCurve : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(HfTiny, GoldenCurve, ::testing::Values("gpt2", "llama", "llama-gqa", "llama3-rope"));

/// Collects the curve of a run.
struct Curve : TrainObserver {
  void on_step(const StepMetrics& metrics) override {
    loss.push_back(metrics.loss);
    grad_norm.push_back(metrics.grad_norm);
  }
  std::vector<double> loss, grad_norm;
};

/// Sum and sum of squares of every tensor of the model file, but for those that rounding noise moves: a bias of keys
/// adds the same to every score of a row, which softmax does not see, so that its true gradient is zero.
void expect_final_parameters(const Model& model, const nlohmann::json& known) {
  int compared = 0;
  for (const WeightSlot& slot : model.weights()) {
    const auto& undetermined = known["undetermined"];
    if (std::find(undetermined.begin(), undetermined.end(), slot.name) != undetermined.end()) continue;
    if (slot.name.ends_with("attn.c_attn.bias")) continue;
    ASSERT_TRUE(known["final_parameters"].contains(slot.name)) << slot.name;
    const double sum = known["final_parameters"][slot.name]["sum"];
    const double squares = known["final_parameters"][slot.name]["sum_of_squares"];
    double found_sum = 0, found_squares = 0;
    for (const double value : slot.view(slot.parameter.value()).to_vector<double>()) {
      found_sum += value;
      found_squares += value * value;
    }
    EXPECT_NEAR(found_sum, sum, 1e-3 * std::sqrt(squares)) << slot.name;
    EXPECT_NEAR(found_squares, squares, 1e-4 * squares) << slot.name;
    ++compared;
  }
  EXPECT_GE(compared, 10);
}

TEST_P(GoldenCurve, ThirtySteps) {
  const std::string data = testing::test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  const std::string model = data + "/hf_tiny/" + GetParam();
  std::ifstream in(model + "/curve.json");
  const auto known = nlohmann::json::parse(in);
  const testing::TemporaryDirectory directory;
  const TrainConfig config = TrainConfig::from_json(
      concat(R"({"model": {"from": ")", model, R"("}, "data": {"train": [{"path": ")", model,
             R"(/curve_batches.safetensors"}], "shuffle": false}, "objective": {"type": "tensors"},
      "optimizer": {"type": "adamw", "learning_rate": 3e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01,
      "decay": "all"}, "train": {"steps": 30, "batch_size": 4, "max_grad_norm": 1.0}, "output": ")",
             directory / "run", "\"}"));
  Curve curve;
  Trainer trainer(config, {.device = "cpu", .observer = &curve});
  trainer.run();

  ASSERT_EQ(curve.loss.size(), 30u);
  ASSERT_EQ(known["loss"].size(), 30u);
  expect_final_parameters(trainer.model(), known);
  for (size_t i = 0; i < 30; ++i) {
    const double loss = known["loss"][i], norm = known["grad_norm"][i];
    EXPECT_NEAR(curve.loss[i], loss, 1e-4 * loss) << "step " << i;
    EXPECT_NEAR(curve.grad_norm[i], norm, 5e-4 * norm) << "step " << i;
  }
}

}  // namespace
}  // namespace ondol
