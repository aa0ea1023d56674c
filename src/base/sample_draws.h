// Random choices for one sample: Philox keyed by (seed, objective, global number of the sample), so that they are the
// same for any batch size, micro-batches, threads and restarts. A new epoch has new numbers and so new choices.
//
//   SampleDraws draws(seed, kStream, batch.first_sample + row);
//   if (draws.uniform() < 0.8f) ...
//   int64_t place = draws.below(count);
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <ondol/base/philox.h>

namespace ondol {

class SampleDraws {
 public:
  /// `stream` tells objectives from one another and from dropout, whose streams are small.
  SampleDraws(uint64_t seed, uint32_t stream, int64_t sample)
      : key_{seed, stream, static_cast<uint32_t>(sample)}, next_(static_cast<uint64_t>(sample) >> 32 << 40) {}

  /// [0, 1), 24 bits.
  float uniform() { return word_to_uniform(word()); }
  /// A whole number in [0, limit), limit >= 1; all equally likely but for one part in 2^32 / limit.
  int64_t below(int64_t limit) {
    return static_cast<int64_t>(static_cast<uint64_t>(word()) * static_cast<uint64_t>(limit) >> 32);
  }
  /// Length of a geometric distribution, 1, 2, ...: P(n) = (1 - p)^(n-1) p, drawn again above `longest`.
  int64_t geometric(double p, int64_t longest) {
    for (;;) {
      const double u = static_cast<double>(uniform());
      const auto length = static_cast<int64_t>(std::floor(std::log1p(-u) / std::log1p(-p))) + 1;
      if (length <= longest) return length;
    }
  }
  /// P(n) = lambda^n e^-lambda / n!, by inversion.
  int64_t poisson(double lambda) {
    const double u = static_cast<double>(uniform());
    int64_t n = 0;
    double term = std::exp(-lambda), sum = term;
    while (u >= sum && term > 0.0) {
      term *= lambda / static_cast<double>(++n);
      sum += term;
    }
    return n;
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1], values[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    }
  }

 private:
  uint32_t word() { return philox_word(key_, next_++); }

  PhiloxKey key_;
  uint64_t next_;
};

}  // namespace ondol
