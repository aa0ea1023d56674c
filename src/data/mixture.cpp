#include <ondol/data/mixture.h>

#include <cmath>

#include <ondol/base/error.h>

namespace ondol {

Mixture::Mixture(std::vector<double> weights) : shares_(std::move(weights)), counts_(shares_.size(), 0) {
  if (shares_.empty()) throw UsageError("no data: the mixture has no source");
  double sum = 0;
  for (const double weight : shares_) {
    if (!(weight > 0) || !std::isfinite(weight)) throw UsageError(concat("data weight must be above 0, got ", weight));
    sum += weight;
  }
  if (!std::isfinite(sum)) throw UsageError("data weights are too large to be added up");
  for (double& share : shares_) share /= sum;
}

size_t Mixture::next() {
  ++total_;
  size_t best = 0;
  double best_deficit = -1;
  for (size_t s = 0; s < shares_.size(); ++s) {
    const double deficit = shares_[s] * static_cast<double>(total_) - static_cast<double>(counts_[s]);
    if (deficit > best_deficit) {
      best_deficit = deficit;
      best = s;
    }
  }
  ++counts_[best];
  return best;
}

void Mixture::restore(const std::vector<int64_t>& counts) {
  ONDOL_CHECK(counts.size() == counts_.size(), "cannot resume data: the state has ", counts.size(), " sources, now ",
              counts_.size());
  total_ = 0;
  for (const int64_t count : counts) {
    ONDOL_CHECK(count >= 0, "cannot resume data: negative counter ", count);
    total_ += count;
  }
  counts_ = counts;
}

}  // namespace ondol
