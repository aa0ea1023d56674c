// Values published elsewhere: GELU, 1000 steps of AdamW, smoothed labels, rotary frequencies of Llama 3.1.
#include <cmath>
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/io/safetensors.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/optimizer.h>
#include <ondol/ops/rope.h>

#include "support/reference.h"

namespace ondol {
namespace {

std::string data_directory() {
  const char* path = std::getenv("ONDOL_TEST_DATA");
  return path == nullptr ? "" : path;
}

TEST(PublishedValues, Gelu) {
  if (data_directory().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  std::ifstream file(data_directory() + "/vectors/optim/gelu.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  for (size_t r = 0; r < json["x"].size(); ++r) {
    const auto x = json["x"][r].get<std::vector<float>>();
    const auto expected = json["gelu_erf"][r].get<std::vector<double>>();
    const auto actual = ops::activation(Tensor::from_vector(x, {static_cast<int64_t>(x.size())}), Activation::gelu_erf)
                            .to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-7);
  }
}

/// y = W x against [x0 + x1, -x2], squared error, one sample a step; W (2, 3).
TEST(PublishedValues, AdamwOver1000Steps) {
  if (data_directory().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  const SafetensorsFile file(data_directory() + "/vectors/optim/adamw_1000_steps.safetensors");
  const std::vector<float> inputs = file.tensor("inputs").to_vector<float>();
  const Tensor weight = file.tensor("initial_weight").clone();
  const ops::AdamwState state{weight, {}, Tensor::zeros({2, 3}), Tensor::zeros({2, 3}), Tensor::zeros({2, 3})};
  const ops::OptimizerScalarsTensor scalars = ops::make_optimizer_scalars({});
  const auto expect_near = [&](const std::string& name, double tolerance) {
    const std::vector<double> expected = file.tensor(name).to_vector<double>(), actual = weight.to_vector<double>();
    for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(actual[i], expected[i], tolerance) << name << " " << i;
  };
  for (int64_t step = 1; step <= 1000; ++step) {
    const float* x = inputs.data() + 3 * (step - 1);
    const float target[2] = {x[0] + x[1], -x[2]};
    const float* w = weight.data<float>();
    float* grad = state.grad.data<float>();
    for (int r = 0; r < 2; ++r) {
      const float y = w[3 * r] * x[0] + w[3 * r + 1] * x[1] + w[3 * r + 2] * x[2];
      for (int c = 0; c < 3; ++c) grad[3 * r + c] = 2.0f * (y - target[r]) * x[c];
    }
    ops::set_optimizer_scalars(scalars, 1e-3f, 1.0f, step);
    ops::adamw_step(state, {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.01f}, scalars);
    if (file.has(concat("weight_after_", step))) expect_near(concat("weight_after_", step), 1e-6);
  }
  expect_near("published_weight_after_1000", 1e-4);
}

TEST(PublishedValues, LabelSmoothingOfTorch) {
  // torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none") in float64, torch 2.15.
  const Tensor logits = Tensor::from_vector<float>({1, 2, 3, -0.5f, 0, -1, 0.5f, 4}, {2, 4});
  const Tensor labels = Tensor::from_vector<int32_t>({2, 0}, {2});
  const ops::CrossEntropyResult forward = ops::cross_entropy(logits, labels, kIgnoreIndex, 0.1f);
  const std::vector<float> losses = forward.loss.to_vector<float>();
  EXPECT_NEAR(losses[0], 0.5899953882, 1e-6);
  EXPECT_NEAR(losses[1], 3.9662786242, 1e-6);
  LossScale scale;
  scale.label_smoothing = 0.1f;
  const std::vector<float> gradients =
      ops::cross_entropy_backward(logits, labels, forward.lse, scale, {}).to_vector<float>();
  const std::vector<double> expected = {0.0632576070,  0.2149090494,  -0.2728595905, -0.0053070660,
                                        -0.9076433337, -0.0186148393, 0.0036163048,  0.9226418682};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(gradients[i], expected[i], 1e-6);
  EXPECT_THROW(ops::cross_entropy(logits, labels, kIgnoreIndex, 1.0f), Error);
}

TEST(PublishedValues, RopeTableOfLlama31) {
  // rope_theta 500000, head_dim 128, factor 8, 1 and 4 over 8192: pairs below 29 keep their frequency (wave length
  // under 2048), pairs above 35 have an eighth of it.
  const RopeConfig config{.head_dim = 128,
                          .theta = 500000,
                          .type = "llama3",
                          .factor = 8,
                          .low_freq_factor = 1,
                          .high_freq_factor = 4,
                          .original_max_positions = 8192,
                          .max_positions = 1000};
  const RopeTable table = ops::make_rope_table(config, {});
  const std::vector<float> cosines = table.cos.to_vector<float>(), sines = table.sin.to_vector<float>();
  for (int64_t position = 0; position < 1000; position += 37) {
    for (int64_t i = 0; i < 64; ++i) {
      const double angle = testing::reference::rope_angle(config, 128, static_cast<double>(position), i);
      EXPECT_NEAR(cosines[static_cast<size_t>(position * 64 + i)], std::cos(angle), 1e-7);
      EXPECT_NEAR(sines[static_cast<size_t>(position * 64 + i)], std::sin(angle), 1e-7);
    }
  }
  const auto plain = [](int64_t i) { return std::pow(500000.0, -static_cast<double>(i) / 64.0); };
  EXPECT_NEAR(sines[64 + 20], std::sin(plain(20)), 1e-7);
  EXPECT_NEAR(sines[64 + 60], std::sin(plain(60) / 8.0), 1e-10);
}

}  // namespace
}  // namespace ondol
