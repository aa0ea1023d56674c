// Distillation on top of output weights of every kind: plain ones in chunks, quantised ones and ones with a low-rank
// addition through their whole logits, against the plain weight of the same values.
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include <ondol/autograd/functions.h>
#include <ondol/autograd/low_rank.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/quantized.h>

#include "support/error_of.h"

namespace ondol {
namespace {

constexpr int64_t kRows = 9, kVocab = 12, kHidden = 32, kRank = 2;
constexpr float kScale = 0.75f;

Tensor random(const Shape& shape, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& value : values) value = 0.5f * normal(engine);
  return Tensor::from_vector(values, shape);
}

Tensor one() { return Tensor::full({}, 1.0, DType::f32); }

struct Student {
  Variable hidden = Variable(random({kRows, kHidden}, 1), true);
  Variable weight = Variable(random({kVocab, kHidden}, 2));
  Variable bias = Variable(random({kVocab}, 3), true);
  // The addition reaches rows 2 to 8 only.
  Variable a = Variable(random({kRank, kHidden}, 4), true), b = Variable(random({7, kRank}, 5), true);

  void add_low_rank() const {
    weight.set_low_rank(std::make_shared<LowRankUpdate>(LowRankUpdate{.a = a, .parts = {{b, 2, 7}}, .scale = kScale}));
  }
};

struct Losses {
  double soft, hard;
};

Losses distill(const Variable& hidden, const Variable& weight, const Variable& bias) {
  functions::LinearDistillationInputs inputs;
  inputs.weight = weight;
  inputs.bias = bias;
  inputs.teacher = {.hidden = random({kRows, 8}, 6), .weight = random({kVocab, 8}, 7)};
  inputs.temperature = 2.0f;
  inputs.label_mix = 0.3f;
  inputs.soft_scale = 0.25;
  inputs.hard_scale = {0.5, Tensor::full({1}, 0.75, DType::f32)};
  const Tensor labels = Tensor::from_vector<int32_t>({3, -100, 11, 0, 5, -100, 2, 8, 8}, {kRows});
  Tape tape;
  const auto [soft, hard] = functions::linear_distillation(hidden, labels, inputs);
  const Losses values{soft.value().item(), hard.value().item()};
  tape.backward(functions::add(soft, hard), one());
  return values;
}

void expect_close(const Tensor& found, const Tensor& wanted, const char* what) {
  ASSERT_EQ(found.shape(), wanted.shape()) << what;
  const std::vector<float> a = found.to_vector<float>(), b = wanted.to_vector<float>();
  double error = 0.0, size = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(a[i] - b[i], 2);
    size += std::pow(b[i], 2);
  }
  EXPECT_LE(std::sqrt(error), 2e-6 * std::sqrt(size)) << what;
}

void expect_close(const Losses& found, const Losses& wanted) {
  EXPECT_NEAR(found.soft, wanted.soft, 2e-6 * std::abs(wanted.soft));
  EXPECT_NEAR(found.hard, wanted.hard, 2e-6 * std::abs(wanted.hard));
}

TEST(LinearDistillation, TrainsALowRankAdditionToTheOutputWeight) {
  const Student plain, student;
  student.add_low_rank();
  // The addition in plain matrices: rows of B outside its part are zero.
  const Tensor wide_b = Tensor::zeros({kVocab, kRank}, DType::f32);
  wide_b.narrow(0, 2, 7).copy_from(plain.b.value());
  const Variable sum(ops::add(plain.weight.value(), ops::scale(ops::matmul(wide_b, plain.a.value()), kScale)), true);

  const Losses wanted = distill(plain.hidden, sum, plain.bias);
  expect_close(distill(student.hidden, student.weight, student.bias), wanted);
  expect_close(student.hidden.grad(), plain.hidden.grad(), "hidden");
  expect_close(student.bias.grad(), plain.bias.grad(), "bias");
  EXPECT_FALSE(student.weight.has_grad());
  // W = W0 + s B A: dA = s B^T dW, dB = s dW A^T.
  const Tensor grad = sum.grad();
  expect_close(student.a.grad(), ops::scale(ops::matmul(wide_b.transpose(0, 1), grad), kScale), "A");
  const Tensor wide_grad = ops::scale(ops::matmul(grad, plain.a.value().transpose(0, 1)), kScale);
  expect_close(student.b.grad(), wide_grad.narrow(0, 2, 7).contiguous(), "B");

  expect_close(merged_weight(student.weight), sum.value(), "merged");
}

TEST(LinearDistillation, TakesQuantizedRows) {
  const Student plain, student;
  const auto blocks = std::make_shared<QuantizedWeight>(ops::quantize(student.weight.value(), QuantFormat::q8_0));
  student.weight.set_quantized(blocks);
  student.weight.set_value({});
  const Variable values(ops::dequantize(*blocks, DType::f32));
  const Losses wanted = distill(plain.hidden, values, plain.bias);
  const Losses found = distill(student.hidden, student.weight, student.bias);
  // The product with quantised rows rounds the inputs to 8 bits, too.
  EXPECT_NEAR(found.soft, wanted.soft, 2e-2 * wanted.soft);
  EXPECT_NEAR(found.hard, wanted.hard, 2e-2 * wanted.hard);
  EXPECT_TRUE(student.hidden.has_grad());
  EXPECT_GT(std::abs(wanted.soft - distill(plain.hidden, Variable(random({kVocab, kHidden}, 20)), plain.bias).soft),
            0.1 * wanted.soft);  // other weights are told apart
}

TEST(LinearDistillation, AnAddedLossKeepsItsScale) {
  const Student student;
  functions::LinearDistillationInputs inputs;
  inputs.weight = student.weight;
  inputs.teacher = {.hidden = random({kRows, 8}, 6), .weight = random({kVocab, 8}, 7)};
  const Tensor labels = Tensor::full({kRows}, 1, DType::i32);
  for (const bool adapted : {false, true}) {
    if (adapted) student.add_low_rank();
    Tape tape;
    const auto [soft, hard] = functions::linear_distillation(student.hidden, labels, inputs);
    const Variable doubled = functions::scale(functions::add(soft, hard), 2.0f);
    EXPECT_NE(testing::error_of([&] { tape.backward(doubled, one()); }).find("multiplied by 2 afterwards"),
              std::string::npos);
    Tape second;
    const auto [used, unused] = functions::linear_distillation(student.hidden, labels, inputs);
    EXPECT_NE(testing::error_of([&] { second.backward(used, one()); }).find("takes no part"), std::string::npos);
  }
}

}  // namespace
}  // namespace ondol
