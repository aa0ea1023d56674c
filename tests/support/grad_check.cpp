#include "support/grad_check.h"

#include <ondol/base/philox.h>

namespace ondol::testing {

namespace {

/// Unit roundoff of the data type.
double roundoff(DType dtype) { return dtype == DType::bf16 ? 0x1p-9 : dtype == DType::f32 ? 0x1p-24 : 0.0; }

double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double v : values) {
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  }
  return largest;
}

/// Both infinite the same way, or both NaN.
bool same_special(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

std::string compare_outputs(const OpCase& c, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
  const std::vector<Array<double>> expected = c.oracle(oracle_inputs(inputs));
  const std::vector<Array<float>> naive = c.naive(naive_inputs(inputs));
  if (expected.size() != outputs.size()) return concat(outputs.size(), " outputs, the oracle has ", expected.size());
  for (size_t o = 0; o < outputs.size(); ++o) {
    const Tensor& output = outputs[o];
    if (output.shape() != expected[o].shape) {
      return concat("output ", o, " has shape ", output.shape(), ", the oracle's ", expected[o].shape);
    }
    const std::vector<double> actual = output.to_vector<double>();
    const Round round_output{output.dtype() == DType::bf16};
    double naive_error = 0;
    for (int64_t i = 0; i < expected[o].numel(); ++i) {
      const double error = std::abs(static_cast<double>(round_output(naive[o][i])) - expected[o][i]);
      if (std::isfinite(error)) naive_error = std::max(naive_error, error);
    }
    const double unit = roundoff(output.dtype()), largest = largest_magnitude(expected[o].values);
    for (int64_t i = 0; i < expected[o].numel(); ++i) {
      const double want = expected[o][i], got = actual[static_cast<size_t>(i)];
      if (same_special(got, want)) continue;
      // The floor: two roundings of the result, two f32 roundings of the largest intermediate.
      const double floor = 2.0 * unit * std::abs(want) + 2.0 * roundoff(DType::f32) * largest;
      const double bound = c.exact ? unit * std::abs(want) : 2.0 * naive_error + floor;
      if (!(std::abs(got - want) <= bound)) {
        return concat("output ", o, "[", i, "]: ", got, ", oracle ", want, ", error ", std::abs(got - want), ", bound ",
                      bound);
      }
    }
  }
  return "";
}

namespace {

/// Central differences of sum(weights * outputs) of the oracle.
class DifferenceQuotient {
 public:
  DifferenceQuotient(const OpCase& c, std::vector<Array<double>> point, const std::vector<std::vector<double>>& weights)
      : case_(c), point_(std::move(point)), weights_(weights) {}

  double at(size_t input, int64_t element) {
    double& x = point_[input].values[static_cast<size_t>(element)];
    const double before = x, h = 1e-5 * std::max(1.0, std::abs(before));
    x = before + h;
    const double above = loss();
    x = before - h;
    const double below = loss();
    x = before;
    return (above - below) / (2.0 * h);
  }

  /// The same at a point whose differentiable inputs are off by up to a rounding each.
  DifferenceQuotient perturbed(double unit, uint32_t trial) const {
    DifferenceQuotient other = *this;
    for (size_t i = 0; i < other.point_.size(); ++i) {
      if (!case_.inputs[i].differentiable) continue;
      std::vector<double>& values = other.point_[i].values;
      for (size_t j = 0; j < values.size(); ++j) {
        values[j] *= 1.0 + unit * (2.0 * philox_uniform({77, static_cast<uint32_t>(i), trial}, j) - 1.0);
      }
    }
    return other;
  }

 private:
  double loss() const {
    const std::vector<Array<double>> out = case_.oracle(point_);
    double total = 0;
    for (size_t o = 0; o < weights_.size(); ++o) {
      for (size_t i = 0; i < weights_[o].size(); ++i) total += weights_[o][i] * out[o].values[i];
    }
    return total;
  }

  const OpCase& case_;
  std::vector<Array<double>> point_;
  const std::vector<std::vector<double>>& weights_;
};

/// How far the gradient moves when the inputs move by a rounding: what no implementation can avoid.
double sensitivity(const DifferenceQuotient& quotient, double unit, size_t input, int64_t element, double value) {
  double largest = 0;
  for (uint32_t trial = 0; trial < 4; ++trial) {
    largest = std::max(largest, std::abs(quotient.perturbed(unit, trial).at(input, element) - value));
  }
  return largest;
}

std::vector<Tensor> upstream_gradients(const OpCase& c, const std::vector<Tensor>& outputs) {
  std::vector<Tensor> upstream;
  for (int o = 0; o < c.grad_outputs; ++o) {
    const Tensor& output = outputs[static_cast<size_t>(o)];
    std::vector<float> values(static_cast<size_t>(output.numel()), 1.0f);
    for (size_t i = 0; !c.unit_gradient && i < values.size(); ++i) {
      values[i] = static_cast<float>(philox_normal({4242, static_cast<uint32_t>(o), 0}, i));
    }
    upstream.push_back(Tensor::from_vector(values, output.shape()).to(output.dtype()).to(output.device()));
  }
  return upstream;
}

}  // namespace

CaseRun run_case(const OpCase& c, Device device) {
  CaseRun run;
  run.inputs = build_inputs(c, device);
  const OpResult result = c.run(run.inputs, true);
  run.outputs = result.outputs;
  run.upstream = upstream_gradients(c, run.outputs);
  if (c.grad_outputs > 0) run.gradients = result.backward(run.upstream);
  return run;
}

std::vector<char> result_bytes(const CaseRun& run) {
  std::vector<char> bytes;
  for (const std::vector<Tensor>* tensors : {&run.outputs, &run.gradients}) {
    for (const Tensor& t : *tensors) {
      const Tensor dense = t.to(Device{}).contiguous();
      const char* data = static_cast<const char*>(dense.raw());
      bytes.insert(bytes.end(), data, data + static_cast<size_t>(dense.numel()) * dtype_size(dense.dtype()));
    }
  }
  return bytes;
}

std::string check_gradients(const OpCase& c, const CaseRun& run, int samples) {
  std::vector<std::vector<double>> weights;
  double largest_weight = 0;
  for (const Tensor& gradient : run.upstream) {
    weights.push_back(gradient.to_vector<double>());
    largest_weight = std::max(largest_weight, largest_magnitude(weights.back()));
  }
  const std::vector<Tensor>& actual = run.gradients;
  const double unit = roundoff(c.dtype);
  DifferenceQuotient quotient(c, oracle_inputs(run.inputs), weights);
  size_t next = 0;
  for (size_t input = 0; input < c.inputs.size(); ++input) {
    if (!c.inputs[input].differentiable) continue;
    if (next == actual.size()) return concat("no gradient for input ", input);
    const Tensor& gradient = actual[next++];
    if (gradient.shape() != c.inputs[input].shape) {
      return concat("gradient of input ", input, " has shape ", gradient.shape(), ", not ", c.inputs[input].shape);
    }
    const std::vector<double> values = gradient.to_vector<double>();
    const double largest = largest_magnitude(values);
    const int64_t count = static_cast<int64_t>(values.size());
    const int64_t step = std::max<int64_t>(1, count / samples);
    for (int64_t i = step / 2; i < count; i += step) {
      const double want = quotient.at(input, i), got = values[static_cast<size_t>(i)];
      // A gradient goes through a few roundings of intermediate results of the largest gradient's size; the last
      // term is the error of the difference quotient.
      double bound = 4.0 * unit * std::abs(want) + (c.dtype == DType::bf16 ? 2.0 : 32.0) * unit * largest + 2e-8;
      bound += 4.0 * c.cancellation * unit * largest_weight;
      if (std::abs(got - want) <= bound) continue;
      bound += 2.0 * sensitivity(quotient, unit, input, i, want);
      if (!(std::abs(got - want) <= bound)) {
        return concat("gradient of input ", input, "[", i, "]: ", got, ", central difference ", want, ", error ",
                      std::abs(got - want), ", bound ", bound);
      }
    }
  }
  if (next != actual.size()) return concat("a gradient more than differentiable inputs");
  return "";
}

std::string check_case(const OpCase& c, const CaseRun& run, int samples) {
  const std::string problem = compare_outputs(c, run.inputs, run.outputs);
  return problem.empty() && c.grad_outputs > 0 ? check_gradients(c, run, samples) : problem;
}

}  // namespace ondol::testing
