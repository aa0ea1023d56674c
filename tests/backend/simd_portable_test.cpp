// The portable vectors of simd.h, which no kernel of an x86-64 build uses: functions, tails, conversions, random words.
#define ONDOL_ISA portable
#include "backend/cpu/kernels/philox_lanes.h"

#include <gtest/gtest.h>

#include <ondol/base/philox.h>

#include "backend/ulp.h"

namespace ondol {
namespace {

using namespace cpu::portable;

template <class Function>
void expect_accurate(const char* name, double ulps, Function function, double (*exact)(double)) {
  double worst = 0;
  float at = 0;
  for_each_spread_float([&](float x) {
    float out[kLanes];
    store(out, function(splat(x)));
    const double error = ulp_error(out[0], exact(static_cast<double>(x)));
    if (error > worst) worst = error, at = x;
  });
  EXPECT_LE(worst, ulps) << name << " at " << at;
}

TEST(SimdPortable, Functions) {
  expect_accurate(
      "exp", 1.0, [](Floats x) { return cpu::portable::exp(x); }, [](double x) { return std::exp(x); });
  expect_accurate(
      "log", 1.0, [](Floats x) { return cpu::portable::log(x); }, [](double x) { return std::log(x); });
  expect_accurate(
      "tanh", 1.5, [](Floats x) { return cpu::portable::tanh(x); }, [](double x) { return std::tanh(x); });
}

TEST(SimdPortable, TailsTouchNothingElse) {
  for (int n = 0; n <= kLanes; ++n) {
    const float in[kLanes] = {1, 2, 3, 4};
    float out[kLanes] = {-1, -1, -1, -1};
    bfloat16 narrow[kLanes] = {bfloat16(-1), bfloat16(-1), bfloat16(-1), bfloat16(-1)};
    store_n(out, load_n(in, n), n);
    store_n(narrow, load_n(in, n), n);
    for (int i = 0; i < kLanes; ++i) {
      EXPECT_EQ(out[i], i < n ? in[i] : -1.0f);
      EXPECT_EQ(static_cast<float>(narrow[i]), i < n ? in[i] : -1.0f);
    }
    EXPECT_EQ(reduce_sum(load_n(in, n)), static_cast<float>(n * (n + 1) / 2));
  }
}

TEST(SimdPortable, ConversionToBf16) {
  for_each_spread_float([](float x) {
    bfloat16 out[kLanes];
    store(out, splat(x));
    ASSERT_EQ(out[0].bits, bfloat16(x).bits) << x;
  });
}

TEST(SimdPortable, RandomWordsAreThoseOfTheGenerator) {
  const int64_t step = 9;
  const PhiloxLanesKey lanes({0x1234567890abcdefu, 17, &step});
  const PhiloxKey key{0x1234567890abcdefu, 17, 9};
  for (const uint64_t first : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 3}) {
    uint32_t words[kPhiloxWords];
    philox_words(lanes, first, words);
    for (int i = 0; i < kPhiloxWords; ++i) {
      ASSERT_EQ(words[i], philox_word(key, 4 * first + static_cast<uint64_t>(i))) << i;
    }
  }
}

}  // namespace
}  // namespace ondol
