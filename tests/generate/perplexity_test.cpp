// Sliding windows against one forward for each target.
#include <cmath>

#include <ondol/generate/perplexity.h>

#include <gtest/gtest.h>

#include "support/test_data.h"

namespace ondol {
namespace {

/// -log p of ids[target] given the tokens from `begin` on.
double surprise(Model& model, const std::vector<int32_t>& ids, size_t begin, size_t target) {
  const std::vector<int32_t> context(ids.begin() + static_cast<ptrdiff_t>(begin),
                                     ids.begin() + static_cast<ptrdiff_t>(target));
  const Shape shape{1, static_cast<int64_t>(context.size())};
  const Tensor hidden = model.hidden({.input_ids = Tensor::from_vector(context, shape)}, {}).value();
  const std::vector<float> logits = model.logits(hidden.select(1, shape[1] - 1)).to_vector<float>();
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return std::log(sum) - logits[static_cast<size_t>(ids[target])];
}

TEST(Perplexity, EveryTokenIsPredictedOnceFromItsWindow) {
  ONDOL_REQUIRE_DATA("hf_tiny/llama");
  const auto model = load_model(test::data_path("hf_tiny/llama"), {.device = "cpu", .dtype = DType::f32});
  std::vector<int32_t> ids;
  for (int i = 0; i < 23; ++i) ids.push_back(i * i * 7 % 137);
  // window 8, stride 3: inputs 0-7, 3-10, 6-13, 9-16, 12-19, and the last one moved back to 14-21.
  double expected = 0;
  size_t next = 1;
  for (const size_t begin : {0, 3, 6, 9, 12, 14}) {
    for (; next <= begin + 8 && next < ids.size(); ++next) expected += surprise(*model, ids, begin, next);
  }
  ASSERT_EQ(next, ids.size());
  for (const int64_t batch : {1, 4, 100}) {
    const PerplexityResult result = perplexity(*model, ids, {.window = 8, .stride = 3, .batch = batch});
    EXPECT_EQ(result.tokens, 22);
    EXPECT_NEAR(result.log_likelihood_loss, expected, 1e-4) << batch;
  }
  double whole = 0;
  for (size_t target = 1; target < ids.size(); ++target) whole += surprise(*model, ids, 0, target);
  EXPECT_NEAR(perplexity(*model, ids).log_likelihood_loss, whole, 1e-4);
  EXPECT_THROW(perplexity(*model, ids, {.window = 65}), UsageError);
  EXPECT_THROW(perplexity(*model, ids, {.window = 8, .stride = 9}), UsageError);
  EXPECT_THROW(perplexity(*model, std::vector<int32_t>{1}), Error);
}

}  // namespace
}  // namespace ondol
