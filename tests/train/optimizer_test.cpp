#include <ondol/train/optimizer.h>

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>
#include <ondol/io/safetensors.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

/// A matrix (3, 5) and a vector (7), filled with reproducible values.
struct Parameters {
  explicit Parameters(DType dtype = DType::f32) {
    matrix = store.add("matrix", {3, 5}, Init::normal(1.0f));
    vector = store.add("vector", {7}, Init::normal(1.0f));
    store.materialize(dtype, {});
    store.initialize(11);
    store.enable_gradients();
  }
  void set_gradients(uint32_t step) {
    store.clear_gradients();
    for (const Variable& parameter : {matrix, vector}) {
      std::vector<float> values;
      for (int64_t i = 0; i < parameter.value().numel(); ++i) {
        values.push_back(static_cast<float>(philox_normal({5, parameter.value().ndim() == 2 ? 1u : 2u, step}, i)));
      }
      parameter.add_grad(Tensor::from_vector(values, parameter.shape()));
    }
  }

  ParameterStore store;
  Variable matrix, vector;
};

std::vector<double> values_of(const Variable& parameter) { return parameter.value().to_vector<double>(); }
std::vector<double> gradient_of(const Variable& parameter) { return parameter.grad().to_vector<double>(); }

TEST(Optimizer, AdamWFollowsTorchTrajectory) {
  const std::string data = testing::test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  const SafetensorsFile file(data + "/vectors/optim/adamw_1000_steps.safetensors");
  ParameterStore store;
  const Variable weight = store.add("weight", {2, 3}, Init::zeros());
  store.materialize(DType::f32, {});
  store.enable_gradients();
  weight.value().copy_from(file.tensor("initial_weight"));
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  const auto optimizer = make_optimizer(config, store);

  const std::vector<float> inputs = file.tensor("inputs").to_vector<float>();
  int compared = 0;
  for (int64_t step = 1; step <= 1000; ++step) {
    const float* x = &inputs[static_cast<size_t>(3 * (step - 1))];
    const std::vector<float> w = weight.value().to_vector<float>();
    const float target[2] = {x[0] + x[1], -x[2]};
    std::vector<float> gradient(6);
    for (size_t row = 0; row < 2; ++row) {
      float prediction = 0;
      for (size_t c = 0; c < 3; ++c) prediction += w[3 * row + c] * x[c];
      for (size_t c = 0; c < 3; ++c) gradient[3 * row + c] = 2.0f * (prediction - target[row]) * x[c];
    }
    store.clear_gradients();
    weight.add_grad(Tensor::from_vector(gradient, {2, 3}));
    optimizer->step({.learning_rate = 1e-3, .update = step});
    const std::string name = concat("weight_after_", step);
    if (!file.has(name)) continue;
    const std::vector<float> known = file.tensor(name).to_vector<float>();
    const std::vector<float> found = weight.value().to_vector<float>();
    for (size_t i = 0; i < known.size(); ++i) EXPECT_NEAR(found[i], known[i], 2e-6) << name << " element " << i;
    ++compared;
  }
  EXPECT_EQ(compared, 5);
  const std::vector<float> published = file.tensor("published_weight_after_1000").to_vector<float>();
  const std::vector<float> found = weight.value().to_vector<float>();
  for (size_t i = 0; i < published.size(); ++i) EXPECT_NEAR(found[i], published[i], 1e-4);
}

/// AdamW as in Loshchilov & Hutter 2019, algorithm 2, in double.
void adamw_reference(std::vector<double>& w, const std::vector<double>& g, std::vector<double>& m,
                     std::vector<double>& v, double lr, double decay, int step) {
  for (size_t i = 0; i < w.size(); ++i) {
    m[i] = 0.9 * m[i] + 0.1 * g[i];
    v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
    const double m_hat = m[i] / (1 - std::pow(0.9, step)), v_hat = v[i] / (1 - std::pow(0.95, step));
    w[i] = w[i] * (1 - lr * decay) - lr * m_hat / (std::sqrt(v_hat) + 1e-8);
  }
}

class Decay : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Optimizer, Decay, ::testing::Values("matrices", "all"));

TEST_P(Decay, AdamWDecaysWhatItShould) {
  Parameters parameters;
  OptimizerConfig config;
  config.decay = GetParam();
  config.beta2 = 0.95;
  config.weight_decay = 0.5;
  const auto optimizer = make_optimizer(config, parameters.store);
  const double vector_decay = std::string(GetParam()) == "all" ? 0.5 : 0.0;
  std::vector<double> matrix = values_of(parameters.matrix), vector = values_of(parameters.vector);
  std::vector<double> m1(15), v1(15), m2(7), v2(7);
  for (int step = 1; step <= 5; ++step) {
    parameters.set_gradients(static_cast<uint32_t>(step));
    adamw_reference(matrix, gradient_of(parameters.matrix), m1, v1, 0.1, 0.5, step);
    adamw_reference(vector, gradient_of(parameters.vector), m2, v2, 0.1, vector_decay, step);
    optimizer->step({.learning_rate = 0.1, .update = step});
  }
  for (size_t i = 0; i < 15; ++i) EXPECT_NEAR(values_of(parameters.matrix)[i], matrix[i], 2e-6);
  for (size_t i = 0; i < 7; ++i) EXPECT_NEAR(values_of(parameters.vector)[i], vector[i], 2e-6);
}

TEST(Optimizer, GradientScaleIsPartOfTheUpdate) {
  Parameters scaled, plain;
  OptimizerConfig config;
  config.type = "sgd";
  const auto a = make_optimizer(config, scaled.store);
  const auto b = make_optimizer(config, plain.store);
  scaled.set_gradients(1);
  plain.set_gradients(1);
  a->step({.learning_rate = 0.2, .gradient_scale = 0.25, .update = 1});
  b->step({.learning_rate = 0.05, .gradient_scale = 1.0, .update = 1});
  // Decay belongs to the rate, so compare what the gradient did on the vector, which is not decayed.
  for (size_t i = 0; i < 7; ++i) EXPECT_NEAR(values_of(scaled.vector)[i], values_of(plain.vector)[i], 1e-6);
}

TEST(Optimizer, SgdWithNesterovMomentum) {
  Parameters parameters;
  OptimizerConfig config;
  config.type = "sgd";
  config.decay = "all";
  config.weight_decay = 0.1;
  config.momentum = 0.9;
  config.nesterov = true;
  const auto optimizer = make_optimizer(config, parameters.store);
  std::vector<double> w = values_of(parameters.matrix), buffer(15);
  for (int step = 1; step <= 4; ++step) {
    parameters.set_gradients(static_cast<uint32_t>(step));
    const std::vector<double> gradient = gradient_of(parameters.matrix);
    for (size_t i = 0; i < 15; ++i) {  // torch.optim.SGD: the buffer starts as the first gradient
      const double g = gradient[i] + 0.1 * w[i];
      buffer[i] = step == 1 ? g : 0.9 * buffer[i] + g;
      w[i] -= 0.05 * (g + 0.9 * buffer[i]);
    }
    optimizer->step({.learning_rate = 0.05, .update = step});
  }
  for (size_t i = 0; i < 15; ++i) EXPECT_NEAR(values_of(parameters.matrix)[i], w[i], 2e-6);
}

TEST(Optimizer, AverageFollowsTheMasterWeights) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Parameters parameters(dtype);
    OptimizerConfig config;
    config.ema_decay = 0.75;
    const auto optimizer = make_optimizer(config, parameters.store);
    std::vector<double> average = optimizer->master().to_vector<double>();
    for (uint32_t step = 1; step <= 5; ++step) {
      parameters.set_gradients(step);
      optimizer->step({.learning_rate = 1e-2, .update = step});
      const std::vector<double> weights = optimizer->master().to_vector<double>();
      for (size_t i = 0; i < average.size(); ++i) average[i] = 0.75 * average[i] + 0.25 * weights[i];
    }
    const std::vector<float> kept = optimizer->average().to_vector<float>();
    for (size_t i = 0; i < average.size(); ++i) EXPECT_NEAR(kept[i], average[i], 1e-6 * (1 + std::abs(average[i])));
    EXPECT_EQ(optimizer->state().back().first, "average");

    const std::vector<float> weights = parameters.store.flat_values().to_vector<float>();
    {
      const AveragedWeights averaged(parameters.store, *optimizer);
      EXPECT_EQ(parameters.store.flat_values().to_vector<float>(), optimizer->average().to(dtype).to_vector<float>());
    }
    EXPECT_EQ(parameters.store.flat_values().to_vector<float>(), weights);
    EXPECT_NE(weights, optimizer->average().to(dtype).to_vector<float>());
  }
}

TEST(Optimizer, Bf16ModelIsTheRoundedMaster) {
  Parameters low(DType::bf16), full;
  const Tensor master = full.store.flat_values().clone();
  const auto a = make_optimizer({}, low.store, master);
  const auto b = make_optimizer({}, full.store);
  a->publish();
  for (uint32_t step = 1; step <= 3; ++step) {
    low.set_gradients(step);
    full.set_gradients(step);
    a->step({.learning_rate = 1e-2, .update = step});
    b->step({.learning_rate = 1e-2, .update = step});
  }
  const std::vector<float> masters = a->master().to_vector<float>(), values = b->master().to_vector<float>();
  const std::vector<float> rounded = low.store.flat_values().to_vector<float>();
  EXPECT_EQ(masters, values);
  for (size_t i = 0; i < masters.size(); ++i) EXPECT_EQ(rounded[i], static_cast<float>(bfloat16(masters[i])));
}

/// What clip_gradient leaves for the update: the gradient is multiplied by the factor, and a step that is not finite
/// changes nothing. Read off an SGD step with learning rate 1.
class Clipping : public ::testing::Test {
 protected:
  Clipping() {
    OptimizerConfig config;
    config.type = "sgd";
    config.weight_decay = 0.0;
    optimizer_ = make_optimizer(config, parameters_.store);
    ops::set_optimizer_scalars(optimizer_->scalars(), 1.0f, 1.0f, 0);
  }

  /// The factor that the update used; 0 when it changed nothing.
  double factor(const std::vector<float>& losses, double max_norm, bool stay = false) {
    const double gradient = gradient_of(parameters_.matrix)[0], before = values_of(parameters_.matrix)[0];
    const Tensor squares = ops::sum_squares(parameters_.store.flat_gradients());
    ops::clip_gradient(optimizer_->scalars(), Tensor::from_vector(losses, {static_cast<int64_t>(losses.size())}),
                       squares, max_norm, stay);
    optimizer_->apply(parameters_.store.flat_gradients());
    return (before - values_of(parameters_.matrix)[0]) / gradient;
  }

  Parameters parameters_;
  std::unique_ptr<Optimizer> optimizer_;
};

TEST_F(Clipping, BringsTheNormWithinItsLimit) {
  parameters_.set_gradients(3);
  double squares = 0;
  for (const double g : gradient_of(parameters_.matrix)) squares += g * g;
  for (const double g : gradient_of(parameters_.vector)) squares += g * g;
  const double norm = std::sqrt(squares);
  EXPECT_NEAR(std::sqrt(ops::sum_squares(parameters_.store.flat_gradients()).item()), norm, 1e-6);
  EXPECT_NEAR(factor({1.0f}, norm * 2), 1.0, 1e-5);
  EXPECT_NEAR(factor({1.0f}, norm / 4), 0.25, 1e-5);
  EXPECT_NEAR(factor({1.0f}, 0.0), 1.0, 1e-5) << "0: never";
}

TEST_F(Clipping, WhatIsNotFiniteChangesNoWeight) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  parameters_.set_gradients(3);
  EXPECT_EQ(factor({1.0f, nan}, 0.0), 0.0);
  EXPECT_EQ(factor({inf, 1.0f}, 1.0), 0.0);
  EXPECT_NEAR(factor({1.0f, 1.0f}, 0.0), 1.0, 1e-5) << "the next step goes on";
  const double gradient = gradient_of(parameters_.vector)[0];
  for (const double bad : {double{nan}, double{inf}}) {
    parameters_.vector.grad().fill(bad);
    EXPECT_EQ(factor({1.0f}, 1.0), 0.0);
  }
  EXPECT_EQ(factor({1.0f}, 1.0, true), 0.0);
  parameters_.vector.grad().fill(gradient);
  EXPECT_EQ(factor({1.0f}, 1.0, true), 0.0) << "a run that is to stop stays where it was";
}

/// The number of the update counts the steps that were not left out: AdamW's bias correction follows it.
TEST(Optimizer, StepsLeftOutAreNotCounted) {
  Parameters counted, skipped;
  const auto a = make_optimizer({}, counted.store), b = make_optimizer({}, skipped.store);
  const Tensor fine = Tensor::zeros({1}), bad = Tensor::full({1}, std::numeric_limits<double>::infinity());
  ops::set_optimizer_scalars(b->scalars(), 1e-2f, 1.0f, 0);
  for (uint32_t step = 1; step <= 4; ++step) {
    counted.set_gradients(step);
    a->step({.learning_rate = 1e-2, .update = step});
    skipped.set_gradients(step);
    for (const Tensor& loss : {bad, fine}) {
      ops::clip_gradient(b->scalars(), loss, ops::sum_squares(skipped.store.flat_gradients()), 0.0, false);
      b->apply(skipped.store.flat_gradients());
    }
  }
  EXPECT_EQ(a->master().to_vector<float>(), b->master().to_vector<float>());
}

TEST(Optimizer, UnknownNamesAreRefused) {
  Parameters parameters;
  OptimizerConfig config;
  config.type = "adam";
  EXPECT_THROW(make_optimizer(config, parameters.store), UsageError);
  config.type = "adamw";
  config.decay = "none";
  EXPECT_THROW(make_optimizer(config, parameters.store), UsageError);
}

}  // namespace
}  // namespace ondol
