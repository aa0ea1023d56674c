// The op case table on the CPU: forward against the oracle, backward against central differences, equal bytes for any
// number of threads, each instruction set of this machine.
#include <cstring>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include <ondol/base/parallel.h>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "support/grad_check.h"
#include "support/op_cases.h"

namespace ondol::testing {
namespace {

const std::vector<OpCase>& cases() {
  static const std::vector<OpCase> all = op_cases();
  return all;
}

/// Fewer samples where one evaluation of the oracle is slow.
int gradient_samples(const OpCase& c) {
  int64_t elements = 0;
  for (const Input& input : c.inputs) elements += input.shape.numel();
  return elements < 500 ? 24 : elements < 4000 ? 8 : 3;
}

/// Runs every case forward and backward; reports the first failures and demands a number of cases.
void run_all(Device device) {
  int executed = 0, with_gradients = 0, failures = 0;
  for (const OpCase& c : cases()) {
    std::string problem;
    try {
      const std::vector<Tensor> inputs = build_inputs(c, device);
      const OpResult result = c.run(inputs, true);
      problem = compare_outputs(c, inputs, result.outputs);
      ++executed;
      if (problem.empty() && c.grad_outputs > 0) {
        problem = check_gradients(c, inputs, result, gradient_samples(c));
        ++with_gradients;
      }
    } catch (const std::exception& error) {
      problem = concat("exception: ", error.what());
    }
    if (!problem.empty() && ++failures <= 40) ADD_FAILURE() << c.name << ": " << problem;
  }
  std::cout << executed << " op cases executed, " << with_gradients << " of them with gradients, " << failures
            << " failed (" << cpu::active_isa() << ")\n";
  EXPECT_EQ(failures, 0);
  EXPECT_GE(executed, 1500);
  EXPECT_GE(with_gradients, 700);
}

TEST(OpCases, NamesAreUnique) {
  std::set<std::string> names;
  for (const OpCase& c : cases()) EXPECT_TRUE(names.insert(c.name).second) << c.name;
}

TEST(OpCases, AgreeWithTheOracleOnTheCpu) { run_all({}); }

/// The bytes of every output and gradient.
std::vector<char> result_bytes(const OpCase& c) {
  const std::vector<Tensor> inputs = build_inputs(c);
  const OpResult result = c.run(inputs, true);
  std::vector<Tensor> tensors = result.outputs;
  if (c.grad_outputs > 0) {
    std::vector<Tensor> grads;
    for (int o = 0; o < c.grad_outputs; ++o) {
      const Tensor& output = result.outputs[static_cast<size_t>(o)];
      grads.push_back(Tensor::full(output.shape(), 1.0, output.dtype()));
    }
    for (const Tensor& t : result.backward(grads)) tensors.push_back(t);
  }
  std::vector<char> bytes;
  for (const Tensor& t : tensors) {
    const Tensor dense = t.contiguous();
    const size_t size = static_cast<size_t>(dense.numel()) * dtype_size(dense.dtype());
    const char* data = static_cast<const char*>(dense.raw());
    bytes.insert(bytes.end(), data, data + size);
  }
  return bytes;
}

TEST(OpCases, ResultsDoNotDependOnTheNumberOfThreads) {
  const int before = num_threads();
  for (const OpCase& c : cases()) {
    set_num_threads(1);
    const std::vector<char> one = result_bytes(c);
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      EXPECT_EQ(one == result_bytes(c), true) << c.name << ": 1 and " << threads << " threads differ";
    }
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace ondol::testing
