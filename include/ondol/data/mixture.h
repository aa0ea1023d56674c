// Which of several sources each sample comes from.
//
//   Mixture mixture({0.7, 0.3});
//   size_t source = mixture.next();          // then take sample number counts()[source] - 1 of it
//
// The next sample comes from the source that is furthest behind its share, the first of equals. After any number of
// samples every source is less than one sample away from its share, so that a short run sees the mixture too, and the
// state is one counter a source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ondol {

class Mixture {
 public:
  /// Weights need not sum to 1. Throws UsageError when there is none, or when one is not positive and finite.
  explicit Mixture(std::vector<double> weights);
  size_t next();
  /// Samples drawn so far from each source.
  const std::vector<int64_t>& counts() const { return counts_; }
  int64_t total() const { return total_; }
  /// Continues from counts() of an earlier one.
  void restore(const std::vector<int64_t>& counts);

 private:
  std::vector<double> shares_;
  std::vector<int64_t> counts_;
  int64_t total_ = 0;
};

}  // namespace ondol
