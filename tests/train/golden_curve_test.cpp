// Whole training runs against what PyTorch did in float64 from the same weights with the same batches.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "support/golden_curve.h"
#include "support/hf_tiny.h"
#include "support/temporary_directory.h"
#include "support/test_device.h"

namespace ondol {
namespace {

class GoldenCurve : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(HfTiny, GoldenCurve, ::testing::ValuesIn(testing::trained_references()),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

/// Sum and sum of squares of every tensor of the model file, but for those that rounding noise moves: a bias of keys
/// adds the same to every score of a row, which softmax does not see, so that its true gradient is zero.
void expect_final_parameters(const Model& model, const nlohmann::json& known) {
  int compared = 0;
  for (const WeightSlot& slot : model.weights()) {
    const auto& undetermined = known["undetermined"];
    if (std::find(undetermined.begin(), undetermined.end(), slot.name) != undetermined.end()) continue;
    if (slot.name.ends_with("attn.c_attn.bias") || !slot.parameter.requires_grad()) continue;
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
  const testing::TemporaryDirectory directory;
  testing::Curve curve;
  Trainer trainer(testing::golden_config(model, directory / "run", 30),
                  {.device = to_string(testing::test_device()), .observer = &curve});
  trainer.run();

  ASSERT_EQ(curve.loss.size(), 30u);
  expect_final_parameters(trainer.model(), testing::golden_curve(model));
  testing::expect_golden_curve(model, curve);
}

}  // namespace
}  // namespace ondol
