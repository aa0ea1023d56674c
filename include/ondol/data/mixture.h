// Which of several sources each sample comes from.
//
//   Mixture mixture({0.7, 0.3});
//   size_t source = mixture.next();          // then take sample number counts()[source] - 1 of it
//
//   Mixture changing({0.7, 0.3}, {0.2, 0.8}, 1000);     // shares move linearly over the first 1000 samples
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
  /// The shares of `weights` at the beginning and of `final_weights` from sample `samples` on, in between interpolated.
  Mixture(std::vector<double> weights, std::vector<double> final_weights, int64_t samples);
  size_t next();
  /// Samples drawn so far from each source.
  const std::vector<int64_t>& counts() const { return counts_; }
  int64_t total() const { return total_; }
  /// Continues from counts() of an earlier one.
  void restore(const std::vector<int64_t>& counts);

 private:
  /// What a source should have given of `total` samples.
  double due(size_t source, double total) const;

  std::vector<double> shares_, final_shares_;
  double changing_ = 0;  // samples over which they do
  std::vector<int64_t> counts_;
  int64_t total_ = 0;
};

}  // namespace ondol
