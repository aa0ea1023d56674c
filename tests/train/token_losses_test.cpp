// Against the published results of an assignment on alignment (data/vectors/policy_gradient).
#include <cmath>

#include <ondol/autograd/variable.h>
#include <ondol/base/error.h>
#include <ondol/io/safetensors.h>
#include <ondol/train/token_losses.h>

#include <gtest/gtest.h>

#include "support/test_data.h"

namespace ondol {
namespace {

constexpr const char* kVectors = "vectors/policy_gradient/inputs_and_expected.safetensors";

void expect_near(const Tensor& value, const Tensor& expected, double tolerance = 1e-5) {
  const std::vector<float> ours = value.to_vector<float>(), theirs = expected.to_vector<float>();
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], tolerance) << i;
}

Tensor mask_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry& entry = *file.find(name);
  std::vector<float> values;
  for (uint64_t i = 0; i < entry.bytes; ++i) values.push_back(file.bytes(entry)[i] != std::byte{0} ? 1.0f : 0.0f);
  return Tensor::from_vector(values, entry.shape);
}

TEST(TokenLosses, MaskedSumsAndEntropy) {
  ONDOL_REQUIRE_DATA(kVectors);
  const SafetensorsFile file(test::data_path(kVectors));
  const Variable x(file.tensor("logits"));
  const Tensor mask = mask_of(file, "mask");
  expect_near(token_entropy(x.value()), file.tensor("expected.entropy"));
  expect_near(masked_mean(x, mask).value(), file.tensor("expected.masked_mean_all"));
  expect_near(masked_mean(x, mask, 1).value(), file.tensor("expected.masked_mean_dim1"));
  expect_near(masked_mean(x, mask, -1).value(), file.tensor("expected.masked_mean_dim-1"));
  expect_near(masked_normalize(x, mask, 42.0).value(), file.tensor("expected.masked_normalize_all_c42"));
  expect_near(masked_normalize(x, mask, 42.0, -1).value(), file.tensor("expected.masked_normalize_dim-1_c42"));
}

TEST(TokenLosses, SftMicroBatches) {
  ONDOL_REQUIRE_DATA(kVectors);
  const SafetensorsFile file(test::data_path(kVectors));
  const Tensor mask = mask_of(file, "response_mask");
  for (const double constant : {1.0, 42.0}) {
    const std::string name = std::string("expected.sft_microbatch_accum2") + (constant == 42.0 ? "_c42" : "");
    const Variable log_probs(file.tensor("policy_log_probs"), true);
    Tape tape;
    const Variable loss = sft_loss(log_probs, mask, {.constant = constant, .accumulation_steps = 2});
    expect_near(loss.value(), file.tensor(name + ".loss"));
    tape.backward(loss);
    expect_near(log_probs.grad(), file.tensor(name + ".grad"), 1e-7);
  }
}

TEST(TokenLosses, LogProbabilitiesOfTheTokens) {
  const Variable logits(Tensor::from_vector<float>({0.0f, 1.0f, 2.0f, 3.0f, 3.0f, -1.0f}, {1, 2, 3}));
  const Tensor ids = Tensor::from_vector<int32_t>({2, 0}, {1, 2});
  const std::vector<float> log_probs = token_log_probs(logits, ids).value().to_vector<float>();
  EXPECT_NEAR(log_probs[0], 2.0 - std::log(1.0 + std::exp(1.0) + std::exp(2.0)), 1e-6);
  EXPECT_NEAR(log_probs[1], 3.0 - std::log(2.0 * std::exp(3.0) + std::exp(-1.0)), 1e-6);
}

TEST(TokenLosses, RefusesMasksThatDoNotFit) {
  const Variable x(Tensor::zeros({2, 3}));
  EXPECT_THROW(masked_mean(x, Tensor::zeros({3, 2})), Error);
  EXPECT_THROW(masked_normalize(x, Tensor::zeros({2, 3}, DType::i32), 1.0), Error);
  EXPECT_THROW(masked_normalize(x, Tensor::zeros({2, 3}), 0.0), Error);
  EXPECT_TRUE(std::isnan(masked_mean(x, Tensor::zeros({2, 3})).value().item()));
}

}  // namespace
}  // namespace ondol
