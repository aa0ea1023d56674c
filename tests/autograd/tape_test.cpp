#include <ondol/autograd/functions.h>

#include <cmath>

#include <gtest/gtest.h>

namespace ondol {
namespace {

Variable leaf(const std::vector<float>& values, const Shape& shape) {
  return Variable(Tensor::from_vector(values, shape), true);
}

Variable total(const Variable& x) {
  return functions::reshape(functions::sum(functions::reshape(x, {x.value().numel()}), 0), {1});
}

TEST(Tape, AddsUpTheGradientsOfAllUses) {
  const Variable x = leaf({1, 2, 3}, {3});
  Tape tape;
  // d/dx sum(x * x + 2 x) = 2 x + 2
  tape.backward(total(functions::add(functions::mul(x, x), functions::scale(x, 2.0f))));
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{4, 6, 8}));
}

TEST(Tape, BroadcastOperandsGetSums) {
  const Variable a = leaf({1, 2, 3, 4, 5, 6}, {2, 3});
  const Variable b = leaf({10, 20, 30}, {3});
  Tape tape;
  tape.backward(total(functions::mul(a, b)));
  EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{10, 20, 30, 10, 20, 30}));
  EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{5, 7, 9}));
}

TEST(Tape, NothingIsRecordedWithoutATapeOrInNoGrad) {
  const Variable x = leaf({1, 2}, {2});
  EXPECT_FALSE(functions::scale(x, 2.0f).requires_grad());
  Tape tape;
  {
    const NoGrad pause;
    EXPECT_FALSE(functions::scale(x, 2.0f).requires_grad());
  }
  EXPECT_TRUE(functions::scale(x, 2.0f).requires_grad());
}

TEST(Tape, SharedGradientsAreNotOverwritten) {
  // Both inputs of an add receive the same tensor; a second gradient for one must not change the other.
  const Variable a = leaf({1, 1}, {2});
  const Variable b = leaf({1, 1}, {2});
  Tape tape;
  const Variable first = functions::scale(a, 3.0f);
  tape.backward(total(functions::add(functions::add(a, b), first)));
  EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{4, 4}));
  EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{1, 1}));
}

TEST(Tape, GradientBuffersAreWrittenInPlace) {
  const Variable w = leaf({1, 2, 3, 4}, {2, 2});
  const Tensor buffer = Tensor::full({2, 2}, 77.0);
  w.set_grad_buffer(buffer);
  const Variable x(Tensor::from_vector<float>({1, 1}, {1, 2}));
  for (int round = 0; round < 2; ++round) {
    w.clear_grad();
    Tape tape;
    const Variable y = functions::add(functions::linear(x, {.weight = w}), functions::linear(x, {.weight = w}));
    tape.backward(total(y));
    EXPECT_EQ(buffer.to_vector<float>(), (std::vector<float>{2, 2, 2, 2}));
  }
}

TEST(Tape, ShapeFunctionsRouteGradients) {
  const Variable x = leaf({1, 2, 3, 4, 5, 6}, {2, 3});
  Tape tape;
  const Variable part = functions::narrow(functions::transpose(x, 0, 1), 0, 1, 2);  // columns 1 and 2
  const Variable joined = functions::concat({functions::scale(part, 2.0f), part}, 0);
  tape.backward(total(joined));
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{0, 3, 3, 0, 3, 3}));
}

TEST(Tape, GatherAndScatterAddAreAdjoint) {
  const Variable x = leaf({1, 2, 3}, {3});
  const Tensor index = Tensor::from_vector<int32_t>({2, 0, 2}, {3});
  {
    Tape tape;
    tape.backward(total(functions::mul(functions::gather(x, 0, index), leaf({1, 10, 100}, {3}))));
  }
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{10, 0, 101}));
}

TEST(Tape, CrossEntropyOfUniformLogits) {
  const Variable logits = leaf(std::vector<float>(8, 0.0f), {2, 4});
  const Tensor labels = Tensor::from_vector<int32_t>({1, -100}, {2});
  Tape tape;
  const Variable loss = functions::cross_entropy(logits, labels, 0.5f);
  EXPECT_NEAR(loss.value().item(), 0.5 * std::log(4.0), 1e-6);
  tape.backward(loss);
  const std::vector<float> grad = logits.grad().to_vector<float>();
  EXPECT_NEAR(grad[1], 0.5 * (0.25 - 1.0), 1e-6);
  EXPECT_NEAR(grad[0], 0.5 * 0.25, 1e-6);
  EXPECT_EQ(grad[5], 0.0f);
}

}  // namespace
}  // namespace ondol
