// rope, glu, glu_backward, embedding, embedding_backward and dropout, emulated, against double.
#include <ondol/base/philox.h>

#include "support/cuda_emulation/row_test.h"

namespace ondol {
namespace {

using namespace row_test;

template <class T>
class CudaTransformerRows : public DataTypeTest<T> {};
TYPED_TEST_SUITE(CudaTransformerRows, DataTypes);

struct RopeCase {
  int64_t batch, length, heads, head_dim, rotary_dim, gap;  // gap: unused elements behind each head
  bool interleaved, inverse, positions, in_place;
};

TYPED_TEST(CudaTransformerRows, Rope) {
  using T = TypeParam;
  std::vector<RopeCase> cases;
  for (const bool interleaved : {false, true}) {
    cases.push_back({2, 3, 2, 64, 64, 0, interleaved, false, false, false});
    cases.push_back({1, 5, 3, 16, 8, 8, interleaved, true, true, false});
    cases.push_back({2, 2, 1, 6, 6, 1, interleaved, false, true, true});
    cases.push_back({1, 1, 1, 2, 2, 0, interleaved, true, false, true});
    cases.push_back({1, 4, 2, 10, 4, 3, interleaved, false, false, false});
    cases.push_back({0, 4, 2, 8, 8, 0, interleaved, false, false, false});
  }
  for (const RopeCase& c : cases) {
    const int64_t half = c.rotary_dim / 2, positions_known = 20, offset = 3;
    const int64_t stride_h = c.head_dim + c.gap, stride_t = stride_h * c.heads, stride_b = stride_t * c.length;
    const auto size = static_cast<size_t>(stride_b * c.batch);
    const auto in = random_values<T>(size, 1);
    std::vector<float> cosine, sine;
    for (int64_t p = 0; p < positions_known; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / c.rotary_dim);
        cosine.push_back(static_cast<float>(std::cos(angle)));
        sine.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    const auto positions =
        random_integers(static_cast<size_t>(c.batch * c.length), 2, static_cast<int32_t>(positions_known));
    std::vector<double> expected = values_of(in);
    for (int64_t token = 0; token < c.batch * c.length; ++token) {
      const int64_t p = c.positions ? positions[static_cast<size_t>(token)] : token % c.length + offset;
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const int64_t head = token * stride_t + h * stride_h;
          const auto first = static_cast<size_t>(head + (c.interleaved ? 2 * i : i));
          const auto second = static_cast<size_t>(head + (c.interleaved ? 2 * i + 1 : i + half));
          const double a = value_of(in[first]), b = value_of(in[second]);
          const double cs = cosine[static_cast<size_t>(p * half + i)];
          const double sn = (c.inverse ? -1.0 : 1.0) * sine[static_cast<size_t>(p * half + i)];
          expected[first] = a * cs - b * sn;
          expected[second] = b * cs + a * sn;
        }
      }
    }
    for_seeds([&] {
      EmulatedArray<T> din(in), dout(in);  // out starts as in, so that the gaps agree
      EmulatedArray<float> dcos(cosine), dsin(sine);
      EmulatedArray<int32_t> dpositions(positions);
      RopeArgs args{};
      args.in = c.in_place ? dout.data() : din.data();
      args.out = dout.data();
      args.batch = c.batch, args.length = c.length, args.heads = c.heads;
      args.head_dim = c.head_dim, args.rotary_dim = c.rotary_dim;
      args.in_stride_b = args.out_stride_b = stride_b;
      args.in_stride_t = args.out_stride_t = stride_t;
      args.in_stride_h = args.out_stride_h = stride_h;
      args.cos = dcos.data(), args.sin = dsin.data();
      args.num_positions = positions_known;
      args.positions = c.positions ? dpositions.data() : nullptr;
      args.position_offset = offset;
      args.interleaved = c.interleaved, args.inverse = c.inverse;
      run_row<T>(&KernelTable::rope, args);
      expect_close(dout.host(), expected,
                   concat("rope D ", c.head_dim, " rotary ", c.rotary_dim, " interleaved ", c.interleaved, " inverse ",
                          c.inverse));
    });
  }
}

double activation(GluKind kind, double x) {
  switch (kind) {
    case GluKind::silu:
      return x / (1.0 + std::exp(-x));
    case GluKind::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case GluKind::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case GluKind::relu:
      return x > 0.0 ? x : 0.0;
    case GluKind::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
  }
  return 0.0;
}

TYPED_TEST(CudaTransformerRows, Glu) {
  using T = TypeParam;
  for (const GluKind kind : {GluKind::silu, GluKind::gelu_tanh, GluKind::gelu_erf, GluKind::relu, GluKind::sigmoid}) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<size_t, size_t>>{{0, 4}, {1, 1}, {3, 16}, {5, 37}, {2, 264}}) {
      // gate and up lie side by side in one matrix, as a fused projection leaves them.
      const size_t stride = 2 * cols;
      const auto fused = random_values<T>(rows * stride, 1, 2.0f), grad_out = random_values<T>(rows * cols, 2);
      std::vector<double> out, grad(rows * stride);
      for (size_t r = 0; r < rows; ++r) {
        for (size_t i = 0; i < cols; ++i) {
          const double gate = value_of(fused[r * stride + i]), up = value_of(fused[r * stride + cols + i]);
          const double g = value_of(grad_out[r * cols + i]), h = 1e-5;
          out.push_back(activation(kind, gate) * up);
          grad[r * stride + i] = g * up * (activation(kind, gate + h) - activation(kind, gate - h)) / (2 * h);
          grad[r * stride + cols + i] = g * activation(kind, gate);
        }
      }
      const std::string what = concat("glu ", static_cast<int>(kind), " ", rows, "x", cols);
      for_seeds([&] {
        EmulatedArray<T> dfused(fused), dgrad_out(grad_out), dout(rows * cols), dgrad(rows * stride);
        GluArgs args{};
        args.gate = dfused.data(), args.up = dfused.data() + cols;
        args.in_row_stride = static_cast<int64_t>(stride);
        args.out = dout.data();
        args.rows = static_cast<int64_t>(rows), args.cols = static_cast<int64_t>(cols);
        args.kind = kind;
        run_row<T>(&KernelTable::glu, args);
        expect_close(dout.host(), out, what);
        const auto backward = [&](EmulatedArray<T>& target, size_t grad_stride) {
          GluBackwardArgs back{};
          back.grad_out = dgrad_out.data();
          back.gate = dfused.data(), back.up = dfused.data() + cols;
          back.in_row_stride = static_cast<int64_t>(stride);
          back.grad_row_stride = static_cast<int64_t>(grad_stride);
          back.grad_gate = target.data(), back.grad_up = target.data() + cols;
          back.rows = args.rows, back.cols = args.cols;
          back.kind = kind;
          run_row<T>(&KernelTable::glu_backward, back);
        };
        const size_t apart = stride + 5;
        std::vector<double> grad_apart(rows * apart);
        for (size_t r = 0; r < rows; ++r) std::copy_n(&grad[r * stride], stride, &grad_apart[r * apart]);
        EmulatedArray<T> dgrad_apart(std::vector<T>(rows * apart));
        backward(dgrad_apart, apart);
        expect_close(dgrad_apart.host(), grad_apart, what + " backward, rows apart");
        for (EmulatedArray<T>* target : {&dgrad, &dfused}) {  // the second time in place
          backward(*target, stride);
          expect_close(target->host(), grad, what + " backward");
        }
      });
    }
  }
}

TYPED_TEST(CudaTransformerRows, ActivationsStayFiniteFarOut) {
  using T = TypeParam;
  const std::vector<T> gate{T(-1e30f), T(-90.0f), T(90.0f), T(1e30f)}, one(4, T(1.0f));
  for (const GluKind kind : {GluKind::silu, GluKind::gelu_tanh, GluKind::gelu_erf, GluKind::relu, GluKind::sigmoid}) {
    EmulatedArray<T> dgate(gate), dup(one), dgrad_out(one), dgrad_gate(4), dgrad_up(4);
    GluBackwardArgs args{};
    args.grad_out = dgrad_out.data(), args.gate = dgate.data(), args.up = dup.data();
    args.in_row_stride = args.grad_row_stride = 4;
    args.grad_gate = dgrad_gate.data(), args.grad_up = dgrad_up.data();
    args.rows = 1, args.cols = 4, args.kind = kind;
    run_row<T>(&KernelTable::glu_backward, args);
    const double slope = kind == GluKind::sigmoid ? 0.0 : 1.0;
    expect_close(dgrad_gate.host(), {0.0, 0.0, slope, slope}, concat("slope of ", static_cast<int>(kind)));
  }
}

TYPED_TEST(CudaTransformerRows, Embedding) {
  using T = TypeParam;
  for (const auto& [count, vocab, hidden] :
       std::vector<std::array<size_t, 3>>{{0, 5, 8}, {1, 1, 1}, {7, 5, 13}, {600, 300, 32}, {900, 70000, 3}}) {
    const auto table = random_values<T>(vocab * hidden, 1), grad_out = random_values<T>(count * hidden, 2);
    const auto start = random_values<float>(vocab * hidden, 3);
    auto ids = random_integers(count, 4, static_cast<int32_t>(vocab));
    for (size_t i = 0; i < count; i += 3) ids[i] = ids[0];  // one long run
    const int64_t padding = count > 5 ? ids[1] : -1;
    for (const bool accumulate : {false, true}) {
      std::vector<double> out, grad(vocab * hidden);
      for (size_t i = 0; i < grad.size() && accumulate; ++i) grad[i] = start[i];
      for (size_t i = 0; i < count; ++i) {
        for (size_t c = 0; c < hidden; ++c) {
          const size_t at = static_cast<size_t>(ids[i]) * hidden + c;
          out.push_back(value_of(table[at]));
          if (ids[i] != padding) grad[at] += value_of(grad_out[i * hidden + c]);
        }
      }
      std::vector<float> first;
      for_seeds([&] {
        EmulatedArray<T> dtable(table), dgrad_out(grad_out), dout(count * hidden);
        EmulatedArray<float> dgrad(start);
        EmulatedArray<int32_t> dids(ids);
        const auto n = static_cast<int64_t>(count), v = static_cast<int64_t>(vocab), c = static_cast<int64_t>(hidden);
        run_row<T>(&KernelTable::embedding, EmbeddingArgs{dtable.data(), dids.data(), dout.data(), n, v, c});
        expect_close(dout.host(), out, "embedding");
        run_row<T>(&KernelTable::embedding_backward,
                   EmbeddingBackwardArgs{dgrad_out.data(), dids.data(), dgrad.data(), n, v, c, padding, accumulate});
        expect_close(dgrad.host(), grad, concat("embedding_backward ", count), 1e-5, 10.0);
        if (first.empty()) first = dgrad.host();
        expect_same_bytes(dgrad.host(), first, "embedding_backward does not depend on the schedule");
      });
    }
  }
}

TYPED_TEST(CudaTransformerRows, EmbeddingIdOutsideTheTable) {
  using T = TypeParam;
  EmulatedArray<T> table(random_values<T>(6, 1)), out(4), grad_out(random_values<T>(4, 2));
  EmulatedArray<int32_t> ids(std::vector<int32_t>{-1, 3});
  EmulatedArray<float> grad(6);
  run_row<T>(&KernelTable::embedding, EmbeddingArgs{table.data(), ids.data(), out.data(), 2, 3, 2});
  expect_close(out.host(), std::vector<double>(4, NAN), "ids outside");
  run_row<T>(&KernelTable::embedding_backward,
             EmbeddingBackwardArgs{grad_out.data(), ids.data(), grad.data(), 2, 3, 2, -1, false});
  expect_close(grad.host(), std::vector<double>(6, 0.0), "ids outside");
}

TYPED_TEST(CudaTransformerRows, Dropout) {
  using T = TypeParam;
  for (const size_t count : {0, 1, 5, 64, 1027}) {
    for (const float p : {0.0f, 0.3f}) {
      const auto in = random_values<T>(count, 1);
      const int64_t step = 12;
      std::vector<double> expected;
      for (size_t i = 0; i < count; ++i) {
        const bool keep = philox_uniform(PhiloxKey{99, 7, 12}, i) >= p;
        expected.push_back(keep ? value_of(in[i]) / (1.0 - static_cast<double>(p)) : 0.0);
      }
      for_seeds([&] {
        EmulatedArray<T> din(in), dout(count);
        EmulatedArray<int64_t> dstep(std::vector<int64_t>{step});
        run_row<T>(&KernelTable::dropout, DropoutArgs{din.data(),
                                                      nullptr,
                                                      dout.data(),
                                                      static_cast<int64_t>(count),
                                                      p,
                                                      {.seed = 99, .stream = 7, .step = dstep.data()},
                                                      0,
                                                      static_cast<int64_t>(count),
                                                      0});
        expect_close(dout.host(), expected, concat("dropout ", count));
      });
    }
  }
}

}  // namespace
}  // namespace ondol
