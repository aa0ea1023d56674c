#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include <ondol/autograd/functions.h>
#include <ondol/base/philox.h>
#include <ondol/ops/attention.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/reduce.h>

namespace {

using ondol::Tensor;

struct Case {
  const char* name;
  std::vector<double> expected;
  std::function<Tensor(ondol::Device)> run;
};

Tensor tensor(const std::vector<float>& values, const ondol::Shape& shape, ondol::Device device) {
  return Tensor::from_vector(values, shape, device);
}

std::vector<Case> cases() {
  return {
      {"matmul",
       {19, 22, 43, 50},
       [](ondol::Device d) {
         return ondol::ops::matmul(tensor({1, 2, 3, 4}, {2, 2}, d), tensor({5, 6, 7, 8}, {2, 2}, d));
       }},
      {"softmax",
       {0.25, 0.75},
       [](ondol::Device d) {
         return ondol::ops::softmax(tensor({0.0f, std::log(3.0f)}, {1, 2}, d));
       }},
      {"rms_norm",
       {3 / std::sqrt(12.5), 8 / std::sqrt(12.5)},
       [](ondol::Device d) {
         return ondol::ops::rms_norm(tensor({3, 4}, {1, 2}, d), tensor({1, 2}, {2}, d), {.eps = 1e-12f}).out;
       }},
      {"layer_norm",
       {-1, 1.5},
       [](ondol::Device d) {
         return ondol::ops::layer_norm(tensor({2, 4}, {1, 2}, d), tensor({1, 1}, {2}, d), tensor({0, 0.5f}, {2}, d),
                                       {.eps = 1e-12f})
             .out;
       }},
      // Two keys with equal scores: the mean of the values.
      {"attention",
       {2, 3},
       [](ondol::Device d) {
         return ondol::ops::attention(tensor({0, 0}, {1, 1, 1, 2}, d), tensor({1, 2, 3, 4}, {1, 2, 1, 2}, d),
                                      tensor({1, 2, 3, 4}, {1, 2, 1, 2}, d), {})
             .out;
       }},
      {"cross_entropy",
       {std::log(4.0)},
       [](ondol::Device d) {
         return ondol::ops::cross_entropy(tensor({5, 5, 5, 5}, {1, 4}, d),
                                          Tensor::from_vector(std::vector<int32_t>{2}, {1}, d))
             .loss;
       }},
      // d/dw of the sum over rows of (x w^T): the sum of the rows of x.
      {"backward",
       {4, 6},
       [](ondol::Device d) {
         const ondol::Variable weight(tensor({0.5f, -1}, {1, 2}, d), true);
         weight.set_grad_buffer(Tensor::zeros({1, 2}, ondol::DType::f32, d));
         ondol::Tape tape;
         const ondol::Variable y =
             ondol::functions::linear(ondol::Variable(tensor({1, 2, 3, 4}, {2, 2}, d)),
                                      {.weight = weight, .bias = {}, .activation = {}, .residual = {}});
         tape.backward(ondol::functions::sum(ondol::functions::reshape(y, {2}), 0));
         return weight.grad();
       }},
  };
}

/// Sizes at which a GPU uses its own libraries and kernels for large work: on it and on the CPU the same values must
/// come out.
struct Comparison {
  const char* name;
  std::function<Tensor(ondol::Device, ondol::DType)> run;
};

Tensor random_tensor(const ondol::Shape& shape, uint32_t stream, ondol::Device device, ondol::DType dtype) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(ondol::philox_normal({.seed = 1, .stream = stream}, i));
  }
  return Tensor::from_vector(values, shape).to(dtype).to(device);
}

std::vector<Comparison> comparisons() {
  return {
      {"matmul against the CPU",
       [](ondol::Device d, ondol::DType t) {
         return ondol::ops::linear(random_tensor({96, 256}, 1, d, t), {.weight = random_tensor({160, 256}, 2, d, t),
                                                                       .bias = random_tensor({160}, 3, d, t),
                                                                       .activation = ondol::Activation::gelu_tanh,
                                                                       .residual = random_tensor({96, 160}, 4, d, t)});
       }},
      {"attention against the CPU",
       [](ondol::Device d, ondol::DType t) {
         ondol::AttentionOptions options;
         options.causal = true;
         return ondol::ops::attention(random_tensor({2, 70, 4, 64}, 1, d, t), random_tensor({2, 70, 2, 64}, 2, d, t),
                                      random_tensor({2, 70, 2, 64}, 3, d, t), options)
             .out;
       }},
      {"rms_norm against the CPU", [](ondol::Device d, ondol::DType t) {
         return ondol::ops::rms_norm(random_tensor({64, 768}, 1, d, t), random_tensor({768}, 2, d, t), {.eps = 1e-5f})
             .out;
       }}};
}

/// The largest difference, as a share of the largest value.
double difference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double largest = 0.0, apart = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::fabs(y[i]));
    const double d = std::fabs(x[i] - y[i]);
    if (std::isnan(d)) return d;
    apart = std::max(apart, d);
  }
  return apart / largest;
}

void compare_with_cpu(ondol::Device device, std::vector<SelfTestResult>& results) {
  for (const Comparison& c : comparisons()) {
    for (const ondol::DType dtype : {ondol::DType::f32, ondol::DType::bf16}) {
      SelfTestResult result{.name = ondol::concat(c.name, ", ", ondol::dtype_name(dtype))};
      try {
        result.error = difference(c.run(device, dtype), c.run({}, dtype));
        result.passed = result.error <= (dtype == ondol::DType::f32 ? 1e-5 : 2e-2);
      } catch (const ondol::Error& error) {
        result.message = error.what();
      }
      results.push_back(result);
    }
  }
}

}  // namespace

std::vector<SelfTestResult> run_self_test(ondol::Device device) {
  std::vector<SelfTestResult> results;
  for (const Case& c : cases()) {
    SelfTestResult result{.name = c.name};
    try {
      const std::vector<float> values = c.run(device).to_vector<float>();
      result.passed = values.size() == c.expected.size();
      for (size_t i = 0; result.passed && i < values.size(); ++i) {
        result.error = std::max(result.error, std::fabs(values[i] - c.expected[i]));
      }
      result.passed = result.passed && result.error <= 1e-5;
    } catch (const ondol::Error& error) {
      result.message = error.what();
    }
    results.push_back(result);
  }
  if (device.type != ondol::DeviceType::cpu) compare_with_cpu(device, results);
  return results;
}
