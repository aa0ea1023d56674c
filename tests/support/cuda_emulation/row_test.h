// What the tests of the emulated CUDA rows share: random data, rounding to the data type, comparison with a double
// oracle.
#pragma once

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "emulated_cuda.h"

namespace ondol::row_test {

template <class T>
double value_of(T v) {
  if constexpr (sizeof(T) == 2 && !std::is_integral_v<T>) {
    return static_cast<float>(v);
  } else {
    return static_cast<double>(v);
  }
}

template <class T>
std::vector<double> values_of(const std::vector<T>& in) {
  std::vector<double> out;
  for (const T& v : in) out.push_back(value_of(v));
  return out;
}

/// Normal deviates, rounded to T.
template <class T>
std::vector<T> random_values(size_t count, uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<T> out;
  for (size_t i = 0; i < count; ++i) out.push_back(T(normal(random)));
  return out;
}

inline std::vector<int32_t> random_integers(size_t count, uint64_t seed, int32_t below) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> out;
  for (size_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(below)));
  return out;
}

/// Every element within relative * (|expected| + scale); a NaN must meet a NaN, an infinity itself. bf16 adds the half
/// unit of its last place.
template <class T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected, const std::string& what,
                  double relative = 1e-5, double scale = 1.0) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  const double rounding = sizeof(T) == 2 ? std::ldexp(1.0, -8) : 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = value_of(actual[i]), e = expected[i];
    if (std::isnan(e) || std::isinf(e)) {
      ASSERT_TRUE(std::isnan(e) ? std::isnan(a) : a == e) << what << " at " << i << ": " << a << ", expected " << e;
      continue;
    }
    ASSERT_LE(std::abs(a - e), rounding * std::abs(e) + relative * (std::abs(e) + scale))
        << what << " at " << i << ": " << a << ", expected " << e;
  }
}

template <class T>
void expect_same_bytes(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  if (a.empty()) return;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)), 0) << what;
}

/// The emulated row for T's dtype, run once.
template <class T, class Args>
void run_row(KernelRow<Args> KernelTable::*row, const Args& args) {
  const auto function = (emulated_cuda_table().*row).get(dtype_of<T>::value);
  ASSERT_NE(function, nullptr) << (emulated_cuda_table().*row).name;
  function(args, nullptr);
}

/// Runs the check under several schedules of the CUDA threads.
inline void for_seeds(const std::function<void()>& check) {
  for (const uint64_t seed : {1, 20, 300}) {
    emulation::set_seed(seed);
    check();
    if (::testing::Test::HasFatalFailure()) return;
  }
}

template <class T>
class DataTypeTest : public ::testing::Test {
 protected:
  /// Whatever a test did, no kernel wrote outside its arrays or kept a workspace.
  void TearDown() override {
    EXPECT_EQ(emulation::allocated_bytes(), 0u);
    EXPECT_NO_THROW(emulation::release(emulation::allocate(1)));
  }
};

using DataTypes = ::testing::Types<float, bfloat16>;

}  // namespace ondol::row_test
