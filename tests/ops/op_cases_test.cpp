// The op case table on the CPU, and on a GPU when there is one: forward against the oracle, backward against central
// differences, equal bytes for any number of threads and in every run, each instruction set of this machine.
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include <ondol/backend/devices.h>
#include <ondol/base/parallel.h>

#include "backend/cpu/isa.h"
#include "support/grad_check.h"
#include "support/op_cases.h"

namespace ondol::testing {
namespace {

const std::vector<OpCase>& cases() {
  static const std::vector<OpCase> all = selected_op_cases();
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
      problem = check_case(c, run_case(c, device), gradient_samples(c));
      ++executed;
      with_gradients += c.grad_outputs > 0;
    } catch (const std::exception& error) {
      problem = concat("exception: ", error.what());
    }
    if (!problem.empty() && ++failures <= 40) ADD_FAILURE() << c.name << ": " << problem;
  }
  std::cout << executed << " op cases executed, " << with_gradients << " of them with gradients, " << failures
            << " failed (" << (device == Device{} ? cpu::active_isa() : describe_devices()[1].name) << ")\n";
  EXPECT_EQ(failures, 0);
  if (!all_op_cases_are_selected()) return;
  EXPECT_GE(executed, 4000);
  EXPECT_GE(with_gradients, 3000);
}

TEST(OpCases, NamesAreUnique) {
  std::set<std::string> names;
  for (const OpCase& c : cases()) EXPECT_TRUE(names.insert(c.name).second) << c.name;
}

TEST(OpCases, AgreeWithTheOracleOnTheCpu) { run_all({}); }

TEST(OpCases, ResultsDoNotDependOnTheNumberOfThreads) {
  const int before = num_threads();
  for (const OpCase& c : cases()) {
    set_num_threads(1);
    const std::vector<char> one = result_bytes(run_case(c));
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      EXPECT_EQ(one == result_bytes(run_case(c)), true) << c.name << ": 1 and " << threads << " threads differ";
    }
  }
  set_num_threads(before);
}

TEST(OpCasesOnTheGpu, AgreeWithTheOracle) {
  const std::string reason = device_unavailable_reason(DeviceType::cuda);
  if (!reason.empty()) GTEST_SKIP() << "skipped: " << reason;
  run_all({DeviceType::cuda, 0});
}

TEST(OpCasesOnTheGpu, EveryRunGivesTheSameBytes) {
  const std::string reason = device_unavailable_reason(DeviceType::cuda);
  if (!reason.empty()) GTEST_SKIP() << "skipped: " << reason;
  const Device gpu{DeviceType::cuda, 0};
  for (const OpCase& c : cases()) {
    EXPECT_EQ(result_bytes(run_case(c, gpu)) == result_bytes(run_case(c, gpu)), true) << c.name;
  }
}

}  // namespace
}  // namespace ondol::testing
