// The op case table on cuda:0, which in this program is the emulated backend: every op from its checks down to the CUDA
// kernels, forward against the oracle and backward against central differences.
#include <gtest/gtest.h>

#include <ondol/backend/devices.h>
#include <ondol/base/error.h>
#include <ondol/tensor/allocator.h>

#include "support/cuda_emulation/emulator.h"
#include "support/grad_check.h"
#include "support/op_cases.h"

namespace ondol::testing {
namespace {

constexpr Device kCuda{DeviceType::cuda, 0};

/// Emulated threads are slow: cases beyond this many elements are left to the CPU, and few gradients are sampled.
constexpr int64_t kMaxElements = 40000;
constexpr int kGradientSamples = 6;

TEST(EmulatedCuda, IsTheCudaBackendOfThisProgram) {
  EXPECT_EQ(device_unavailable_reason(DeviceType::cuda), "");
  ASSERT_EQ(describe_devices().size(), 2u);
  EXPECT_EQ(describe_devices()[1].name, "emulated");
}

TEST(EmulatedCuda, OpCasesAgreeWithTheOracle) {
  int executed = 0, with_gradients = 0, failures = 0, too_large = 0;
  emulation::set_seed(2026);
  for (const OpCase& c : op_cases()) {
    int64_t elements = 0;
    for (const Input& input : c.inputs) elements += input.shape.numel();
    if (elements > kMaxElements) {
      ++too_large;
      continue;
    }
    std::string problem;
    try {
      const std::vector<Tensor> inputs = build_inputs(c, kCuda);
      const OpResult result = c.run(inputs, true);
      problem = compare_outputs(c, inputs, result.outputs);
      ++executed;
      if (problem.empty() && c.grad_outputs > 0) {
        problem = check_gradients(c, inputs, result, kGradientSamples);
        ++with_gradients;
      }
    } catch (const std::exception& error) {
      problem = concat("exception: ", error.what());
    }
    if (!problem.empty() && ++failures <= 40) ADD_FAILURE() << c.name << ": " << problem;
  }
  std::cout << executed << " op cases executed, " << with_gradients << " of them with gradients, " << too_large
            << " too large for the emulation, " << failures << " failed, " << emulation::launch_count()
            << " kernels launched\n";
  EXPECT_EQ(failures, 0);
  EXPECT_GE(emulation::launch_count(), static_cast<uint64_t>(executed)) << "the kernels were not used";
  EXPECT_GE(executed, 1000);
  EXPECT_GE(with_gradients, 500);
}

/// Returning all memory checks the guards of every allocation that the cases made.
TEST(EmulatedCuda, NothingWasWrittenOutsideAnAllocation) {
  EXPECT_NO_THROW(release_cached_memory(kCuda));
  EXPECT_EQ(emulation::allocated_bytes(), 0u);
}

}  // namespace
}  // namespace ondol::testing
