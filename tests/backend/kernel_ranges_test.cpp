// Ranges around the rows that ops call, seen by hooks of the test's own.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/build_info.h>
#include <ondol/base/error.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/norm.h>

#include "backend/backend.h"
#include "backend/kernel_ranges.h"

namespace ondol {
namespace {

std::vector<std::string> events;  // "+row" and "-"

constexpr RangeHooks kRecorder = {[](const char* name) { events.push_back(std::string("+") + name); },
                                  [] { events.emplace_back("-"); }};

class KernelRanges : public ::testing::Test {
 protected:
  void SetUp() override { events.clear(); }
  void TearDown() override {
    kernel_ranges = before_;
    override_kernel_table(DeviceType::cpu, nullptr);
  }

 private:
  const RangeHooks* const before_ = kernel_ranges;
};

TEST_F(KernelRanges, OneForEachRowThatAnOpCalls) {
  const Tensor x = Tensor::full({4, 8}, 2.0), weight = Tensor::full({8}, 1.0);
  events.clear();
  kernel_ranges = &kRecorder;
  const Tensor sum = ops::add(x, x);
  ops::rms_norm(sum, weight, {});
  kernel_ranges = nullptr;
  ops::add(x, x);
  EXPECT_EQ(events, (std::vector<std::string>{"+binary", "-", "+rms_norm", "-"}));
}

TEST_F(KernelRanges, EndWhenAKernelThrows) {
  KernelTable table = kernel_table({});
  table.binary.set(DType::f32, [](const BinaryArgs&, Stream) { throw_error("out of order"); });
  const Tensor x = Tensor::full({3}, 1.0);
  override_kernel_table(DeviceType::cpu, &table);
  events.clear();
  kernel_ranges = &kRecorder;
  EXPECT_THROW(ops::add(x, x), Error);
  EXPECT_EQ(events, (std::vector<std::string>{"+binary", "-"}));
}

TEST_F(KernelRanges, AreOffUnlessAskedFor) {
  EXPECT_EQ(kernel_ranges, nullptr) << "ONDOL_NVTX is set where the tests run";
  EXPECT_EQ(profiler_hooks() == nullptr, build_info().nvtx.empty());
}

}  // namespace
}  // namespace ondol
