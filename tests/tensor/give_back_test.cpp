#include <gtest/gtest.h>

#include "tensor/give_back.h"

namespace ondol {
namespace {

constexpr int64_t kElements = 1 << 20;

TEST(GiveBack, TakesTheMemoryOfWholePagesInsideAndNothingElse) {
  const Tensor flat = Tensor::full({kElements}, 3.0);
  ASSERT_GE(resident_bytes(flat), (kElements - 2048) * sizeof(float));
  const int64_t begin = 1000, length = kElements / 2;
  const Tensor part = flat.narrow(0, begin, length);
  give_back(part);
  EXPECT_EQ(resident_bytes(part), 0u);
  EXPECT_LE(resident_bytes(flat), (kElements / 2 + 4096) * sizeof(float));
  const std::vector<float> values = flat.to_vector<float>();
  for (int64_t i = 0; i < kElements; ++i) {
    const bool inside = i >= begin && i < begin + length;
    const bool shares_a_page = i < begin + 1024 || i >= begin + length - 1024;
    if (inside && shares_a_page) continue;
    ASSERT_EQ(values[static_cast<size_t>(i)], inside ? 0.0f : 3.0f) << i;
  }
}

TEST(GiveBack, MemoryComesAgainWhenItIsWrittenTo) {
  const Tensor flat = Tensor::full({kElements}, 3.0);
  give_back(flat);
  flat.fill(5.0);
  EXPECT_EQ(flat.to_vector<float>(), std::vector<float>(kElements, 5.0f));
}

TEST(GiveBack, ZerosNeedNoMemoryUntilTheyAreWritten) {
  for (const int64_t elements : {int64_t{5}, int64_t{3000}, kElements + 77}) {
    {
      const Tensor dirty = Tensor::full({elements}, 3.0);  // whose block may be handed out again
    }
    const Tensor zeros = zeros_without_memory({elements}, DType::f32, {});
    if (elements > kElements) {
      EXPECT_LE(resident_bytes(zeros), 8192u);
    }
    EXPECT_EQ(zeros.to_vector<float>(), std::vector<float>(static_cast<size_t>(elements)));
  }
}

TEST(GiveBack, PartsSmallerThanAPageStay) {
  const Tensor flat = Tensor::full({kElements}, 3.0);
  give_back(flat.narrow(0, 100, 900));
  give_back(flat.narrow(0, 100, 0));
  EXPECT_EQ(flat.to_vector<float>(), std::vector<float>(kElements, 3.0f));
}

}  // namespace
}  // namespace ondol
