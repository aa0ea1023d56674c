// Functions whose work is split over ranks, against the same functions in one process.
#include <ondol/autograd/tensor_parallel.h>

#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>

#include "support/ranks.h"

namespace ondol {
namespace {

using testing::run_ranks;

constexpr int64_t kBatch = 3, kLength = 5, kTokens = kBatch * kLength, kHidden = 8, kInner = 12;

Tensor random(const Shape& shape, uint32_t stream, DType dtype = DType::f32) {
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    values.push_back(static_cast<float>(philox_normal({5, stream, 0}, static_cast<uint64_t>(i))));
  }
  return Tensor::from_vector(values, shape).to(dtype);
}

/// Rows [r n, (r + 1) n) of x, what is missing at the end being 77: it must have no effect.
Tensor own_rows(const Tensor& x, const Communicator& group) {
  const int64_t rows = x.size(0), own = functions::rows_of_rank(rows, group);
  const Tensor padded = Tensor::full({own * group.size(), x.size(1)}, 77.0, x.dtype());
  padded.narrow(0, 0, rows).copy_from(x);
  return padded.narrow(0, group.rank() * own, own).clone();
}

void expect_near(const std::string& what, const Tensor& got, const Tensor& wanted, double tolerance) {
  ONDOL_CHECK(got.shape() == wanted.shape(), what, " has shape ", got.shape(), ", not ", wanted.shape());
  const std::vector<float> a = got.to(DType::f32).to_vector<float>(), b = wanted.to(DType::f32).to_vector<float>();
  for (size_t i = 0; i < a.size(); ++i) {
    ONDOL_CHECK(std::abs(a[i] - b[i]) <= tolerance * (1.0 + std::abs(b[i])), what, "[", i, "] is ", a[i], ", not ",
                b[i]);
  }
}

/// The sum over the ranks of what each has.
Tensor sum_over(const Tensor& own, Communicator& group) {
  const Tensor sum = own.to(DType::f32).clone();
  group.all_reduce(sum).wait();
  return sum;
}

/// Own rows of what is defined for all.
void expect_own_rows(const std::string& what, const Tensor& got, const Tensor& whole, const Communicator& group,
                     double tolerance) {
  const int64_t own = functions::rows_of_rank(whole.size(0), group), begin = group.rank() * own;
  const int64_t count = std::max<int64_t>(0, std::min(own, whole.size(0) - begin));
  const Tensor rows = got.reshape({own, whole.size(1)});
  if (count > 0) expect_near(what, rows.narrow(0, 0, count), whole.narrow(0, begin, count), tolerance);
}

struct Block {
  Variable up_weight, up_bias, down_weight, down_bias;
};

Block leaves(const Tensor& up, const Tensor& up_bias, const Tensor& down, const Tensor& down_bias) {
  return {Variable(up, true), Variable(up_bias, true), Variable(down, true), Variable(down_bias, true)};
}

void compare_block(Communicator& group, DType dtype, double tolerance) {
  const Tensor up = random({kInner, kHidden}, 1, dtype), up_bias = random({kInner}, 2, dtype);
  const Tensor down = random({kHidden, kInner}, 3, dtype), down_bias = random({kHidden}, 4, dtype);
  const Tensor x = random({kTokens, kHidden}, 5, dtype), upstream = random({kTokens, kHidden}, 6, dtype);

  const Block whole = leaves(up, up_bias, down, down_bias);
  const Variable whole_x(x, true);
  Variable whole_y;
  {
    Tape tape;
    const Variable inner = functions::linear(
        whole_x, {.weight = whole.up_weight, .bias = whole.up_bias, .activation = Activation::gelu_tanh});
    whole_y = functions::linear(inner, {.weight = whole.down_weight, .bias = whole.down_bias, .residual = whole_x});
    tape.backward(whole_y, upstream);
  }

  const int64_t share = kInner / group.size(), begin = group.rank() * share;
  const Block own = leaves(up.narrow(0, begin, share).clone(), up_bias.narrow(0, begin, share).clone(),
                           down.narrow(1, begin, share).clone(), down_bias);
  const int64_t n = functions::rows_of_rank(kTokens, group);
  const Variable own_x(own_rows(x, group).reshape({1, n, kHidden}), true);
  const Tensor own_upstream = own_rows(upstream, group);
  const int64_t real = std::max<int64_t>(0, std::min(n, kTokens - group.rank() * n));
  own_upstream.narrow(0, real, n - real).zero();  // no loss looks at rows behind the end
  Tape tape;
  const Variable inner = functions::column_parallel_linear(
      own_x, {.weight = own.up_weight, .bias = own.up_bias, .activation = Activation::gelu_tanh}, {kBatch, kLength},
      group);
  ONDOL_CHECK((inner.shape() == Shape{kBatch, kLength, share}), "inner ", inner.shape());
  const Variable y = functions::row_parallel_linear(
      inner, {.weight = own.down_weight, .bias = own.down_bias, .residual = own_x}, group);
  tape.backward(y, own_upstream.reshape({1, n, kHidden}));

  expect_own_rows("y", y.value(), whole_y.value(), group, tolerance);
  expect_own_rows("grad x", own_x.grad(), whole_x.grad(), group, tolerance);
  expect_near("grad up", own.up_weight.grad(), whole.up_weight.grad().narrow(0, begin, share), tolerance);
  expect_near("grad up bias", own.up_bias.grad(), whole.up_bias.grad().narrow(0, begin, share), tolerance);
  expect_near("grad down", own.down_weight.grad(), whole.down_weight.grad().narrow(1, begin, share), tolerance);
  expect_near("grad down bias", sum_over(own.down_bias.grad(), group), whole.down_bias.grad(), tolerance);
}

TEST(TensorParallel, ProductsSplitOverRanksAreThoseOfOneProcess) {
  for (const int ranks : {1, 2, 3, 4}) {  // 15 rows: with 2 and 4 ranks the last one's share has rows behind the end
    const auto errors = run_ranks(ranks, [](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
      const auto group = make_communicator(info, meeting);
      compare_block(*group, DType::f32, 2e-6);
      compare_block(*group, DType::bf16, 0.05);
    });
    EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks))) << ranks;
  }
}

TEST(TensorParallel, AProductThatIsComputedAgainGivesTheSameGradients) {
  const auto errors = run_ranks(2, [](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto group = make_communicator(info, meeting);
    const Variable weight(random({kInner, kHidden}, 1), true);
    std::vector<std::vector<float>> gradients;
    for (int pass = 0; pass < 2; ++pass) {
      const Variable x(random({1, 4, kHidden}, 7 + static_cast<uint32_t>(info.rank)), true);
      weight.clear_grad();
      Tape tape;
      const Variable y = functions::column_parallel_linear(x, {.weight = weight}, {2, 4}, *group);
      tape.backward(y, random({2, 4, kInner}, 9));
      gradients.push_back(weight.grad().to_vector<float>());
      gradients.push_back(x.grad().to_vector<float>());
    }
    ONDOL_CHECK(gradients[0] == gradients[2] && gradients[1] == gradients[3], "not the same bytes");
  });
  EXPECT_EQ(errors, std::vector<std::string>(2));
}

/// Central differences of a function of all ranks' rows: sum of w (gather(x))^3 over all ranks, each with its own w.
TEST(TensorParallel, GatheredAndScatteredRowsAgreeWithCentralDifferences) {
  const auto errors = run_ranks(3, [](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto group = make_communicator(info, meeting);
    constexpr int64_t kRows = 7;
    const Tensor whole = random({kRows, 2}, 11);
    const Tensor weights = random({kRows, 2}, 20 + static_cast<uint32_t>(info.rank));
    const auto cubes = [&](const Variable& x) {
      return functions::mul(functions::mul(x, functions::mul(x, x)), Variable(weights));
    };
    const auto total = [&](const Tensor& at) {  // in double, over all ranks
      double sum = 0.0;
      for (uint32_t rank = 0; rank < 3; ++rank) {
        const std::vector<float> w = random({kRows, 2}, 20 + rank).to_vector<float>(), v = at.to_vector<float>();
        for (size_t i = 0; i < v.size(); ++i) sum += static_cast<double>(w[i]) * std::pow(v[i], 3);
      }
      return sum;
    };
    const Variable own(own_rows(whole, *group), true);
    {
      Tape tape;
      const Variable y = cubes(functions::gather_rows(own, kRows, *group));
      tape.backward(y, Tensor::full(y.shape(), 1.0));
    }
    const std::vector<float> got = own.grad().to_vector<float>();
    for (int64_t i = 0; i < static_cast<int64_t>(got.size()); ++i) {
      const int64_t place = info.rank * static_cast<int64_t>(got.size()) + i;
      double wanted = 0.0;
      if (place < whole.numel()) {
        std::vector<float> up = whole.to_vector<float>(), down = up;
        up[static_cast<size_t>(place)] += 0.01f;
        down[static_cast<size_t>(place)] -= 0.01f;
        wanted =
            (total(Tensor::from_vector(up, whole.shape())) - total(Tensor::from_vector(down, whole.shape()))) / 0.02;
      }
      ONDOL_CHECK(std::abs(got[static_cast<size_t>(i)] - wanted) < 1e-2 * (1.0 + std::abs(wanted)), "gradient ", i,
                  " is ", got[static_cast<size_t>(i)], ", not ", wanted);
    }

    // reduce_scatter_rows is the transpose: <scatter(x), y> summed over ranks = sum of <x, gather(y)>.
    const Variable parts(random({kRows, 2}, 30 + static_cast<uint32_t>(info.rank)), true);
    const Tensor upstream = own_rows(random({kRows, 2}, 40), *group);
    Tape tape;
    const Variable scattered = functions::reduce_scatter_rows(parts, *group);
    tape.backward(scattered, upstream);
    expect_near("gradient of the parts", parts.grad(), random({kRows, 2}, 40), 0.0);
    expect_own_rows("the sum", scattered.value(), sum_over(parts.value(), *group), *group, 1e-6);
  });
  EXPECT_EQ(errors, std::vector<std::string>(3));
}

}  // namespace
}  // namespace ondol
