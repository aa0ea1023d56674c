// Dropout and the sum that follows it, in one pass, give what two passes give, to the bit. Runs on the CPU and, in
// cuda_tests, on the emulated GPU.
#include <random>

#include <gtest/gtest.h>

#include <ondol/autograd/functions.h>

#include "support/test_device.h"

namespace ondol {
namespace {

Tensor random_tensor(const Shape& shape, DType dtype, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& value : values) value = normal(random);
  return Tensor::from_vector(values, shape).to(dtype).to(testing::test_device());
}

struct Result {
  std::vector<float> out, grad_x, grad_residual;
  bool operator==(const Result&) const = default;
};

/// Forward and backward for a gradient that is not the same everywhere.
template <class Function>
Result run(DType dtype, const Shape& shape, Function function) {
  const Variable x(random_tensor(shape, dtype, 1), true), residual(random_tensor(shape, dtype, 2), true);
  const Variable weights(random_tensor(shape, dtype, 3), false);
  Tape tape;
  const Variable out = function(x, residual);
  const Variable product = functions::mul(out, weights);
  tape.backward(functions::reshape(functions::sum(functions::reshape(product, {shape.numel()}), 0), {1}));
  const auto values = [](const Tensor& t) { return t.to(DType::f32).to(Device{}).to_vector<float>(); };
  return {values(out.value()), values(x.grad()), values(residual.grad())};
}

TEST(DropoutAdd, IsDropoutAndThenAddToTheBit) {
  const Tensor step = Tensor::from_vector<int64_t>({41}, {1}).to(testing::test_device());
  const RngKey key{.seed = 0x1234567812345678u, .stream = 9, .step = step};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Shape& shape : {Shape{1}, Shape{7, 37}, Shape{3, 5, 64}, Shape{4099}}) {
      for (const float p : {0.0f, 0.1f, 0.7f}) {
        const Result one = run(dtype, shape, [&](const Variable& x, const Variable& residual) {
          return functions::dropout_add(x, residual, p, key);
        });
        const Result two = run(dtype, shape, [&](const Variable& x, const Variable& residual) {
          return functions::add(residual, functions::dropout(x, p, key));
        });
        EXPECT_EQ(one, two) << dtype_name(dtype) << " " << shape << " " << p;
      }
    }
  }
}

}  // namespace
}  // namespace ondol
