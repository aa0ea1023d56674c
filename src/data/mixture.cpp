#include <ondol/data/mixture.h>

#include <algorithm>
#include <cmath>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr int64_t kMostSamples = int64_t{1} << 60;  // that a state may claim: counting goes on from there

std::vector<double> normalized(std::vector<double> weights) {
  if (weights.empty()) throw UsageError("no data: the mixture has no source");
  double sum = 0;
  for (const double weight : weights) {
    if (!(weight > 0) || !std::isfinite(weight)) throw UsageError(concat("data weight must be above 0, got ", weight));
    sum += weight;
  }
  if (!std::isfinite(sum)) throw UsageError("data weights are too large to be added up");
  for (double& share : weights) share /= sum;
  return weights;
}

}  // namespace

Mixture::Mixture(std::vector<double> weights)
    : shares_(normalized(std::move(weights))), final_shares_(shares_), counts_(shares_.size(), 0) {}

Mixture::Mixture(std::vector<double> weights, std::vector<double> final_weights, int64_t samples)
    : shares_(normalized(std::move(weights))),
      final_shares_(normalized(std::move(final_weights))),
      changing_(static_cast<double>(samples)),
      counts_(shares_.size(), 0) {
  ONDOL_CHECK(samples >= 0 && final_shares_.size() == shares_.size(), "a mixture of ", shares_.size(), " sources and ",
              final_shares_.size(), " final weights");
}

/// The integral of the share at each sample.
double Mixture::due(size_t source, double total) const {
  const double begin = shares_[source], end = final_shares_[source];
  if (begin == end || changing_ == 0) return end * total;
  const double moving = std::min(total, changing_);
  return begin * moving + (end - begin) * moving * moving / (2 * changing_) + end * (total - moving);
}

size_t Mixture::next() {
  ++total_;
  size_t best = 0;
  double best_deficit = -1;
  for (size_t s = 0; s < shares_.size(); ++s) {
    const double deficit = due(s, static_cast<double>(total_)) - static_cast<double>(counts_[s]);
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
    ONDOL_CHECK(count <= kMostSamples - total_, "cannot resume data: counter ", count, " is too large");
    total_ += count;
  }
  counts_ = counts;
}

}  // namespace ondol
