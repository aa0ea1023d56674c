// The op case table on cuda:0, which in this program is the emulated backend: every op from its checks down to the CUDA
// kernels, forward against the oracle and backward against central differences, then again under other schedules of the
// CUDA threads, which must give the same bytes.
// ONDOL_EMULATION_SEED=N runs one schedule alone; see selected_op_cases for a part of the cases.
#include <gtest/gtest.h>

#include <ondol/backend/devices.h>
#include <ondol/base/error.h>

#include "support/cuda_emulation/emulator.h"
#include "support/cuda_emulation/seeds.h"
#include "support/grad_check.h"
#include "support/op_cases.h"

namespace ondol::testing {
namespace {

constexpr Device kCuda{DeviceType::cuda, 0};

/// Emulated threads are slow: cases beyond this many elements are left to the CPU, and few gradients are sampled.
constexpr int64_t kMaxElements = 80000;
constexpr int kGradientSamples = 6;

TEST(EmulatedCuda, IsTheCudaBackendOfThisProgram) {
  EXPECT_EQ(device_unavailable_reason(DeviceType::cuda), "");
  ASSERT_EQ(describe_devices().size(), 2u);
  EXPECT_EQ(describe_devices()[1].name, "emulated");
}

bool too_large(const OpCase& c) {
  int64_t elements = 0;
  for (const Input& input : c.inputs) elements += input.shape.numel();
  return elements > kMaxElements;
}

/// Empty, or what is wrong with the case under this schedule. The first schedule fills `expected`.
std::string check_schedule(const OpCase& c, uint64_t seed, std::vector<char>& expected) {
  std::string problem;
  try {
    emulation::set_seed(seed);
    const CaseRun run = run_case(c, kCuda);
    const std::vector<char> bytes = result_bytes(run);
    if (expected.empty()) {
      problem = check_case(c, run, kGradientSamples);
      expected = bytes;
    } else if (bytes != expected) {
      problem = "other bytes than under the first schedule";
    }
  } catch (const std::exception& error) {
    problem = concat("exception: ", error.what());
  }
  try {  // every tensor is gone: all guards have been looked at
    if (problem.empty() && emulation::allocated_bytes() != 0) problem = "device memory was not released";
    emulation::release(emulation::allocate(1));
  } catch (const std::exception& error) {
    problem = error.what();
  }
  return problem.empty() ? "" : concat(problem, " (ONDOL_EMULATION_SEED=", seed, ")");
}

TEST(EmulatedCuda, OpCasesAgreeWithTheOracle) {
  int executed = 0, with_gradients = 0, failures = 0, left_out = 0;
  const std::vector<uint64_t> seeds = emulation::seeds();
  for (const OpCase& c : selected_op_cases()) {
    if (too_large(c)) {
      ++left_out;
      continue;
    }
    std::vector<char> expected;
    std::string problem;
    for (size_t i = 0; i < seeds.size() && problem.empty(); ++i) problem = check_schedule(c, seeds[i], expected);
    ++executed;
    with_gradients += c.grad_outputs > 0;
    if (!problem.empty() && ++failures <= 40) ADD_FAILURE() << c.name << ": " << problem;
    if (failures > 0 && GTEST_FLAG_GET(fail_fast)) break;
  }
  std::cout << executed << " op cases executed under " << seeds.size() << " schedules, " << with_gradients
            << " of them with gradients, " << left_out << " too large for the emulation, " << failures << " failed, "
            << emulation::launch_count() << " kernels launched\n";
  EXPECT_EQ(failures, 0);
  EXPECT_GE(emulation::launch_count(), static_cast<uint64_t>(executed)) << "the kernels were not used";
  if (!all_op_cases_are_selected()) return;
  EXPECT_GE(executed, 4000);
  EXPECT_GE(with_gradients, 3000);
}

}  // namespace
}  // namespace ondol::testing
