#include <ondol/nn/relative_position.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace ondol {

int32_t relative_position_bucket(int64_t distance, const RelativeBuckets& settings) {
  const int64_t buckets = settings.bidirectional ? settings.num_buckets / 2 : settings.num_buckets;
  const int64_t first = settings.bidirectional && distance > 0 ? buckets : 0;
  const int64_t steps = settings.bidirectional ? std::abs(distance) : std::max<int64_t>(-distance, 0);
  const int64_t exact = buckets / 2;
  if (steps < exact) return static_cast<int32_t>(first + steps);
  // In f32, as the models were trained: where a quotient of logarithms is a whole number, rounding decides.
  const float share =
      std::log(static_cast<float>(steps) / static_cast<float>(exact)) /
      static_cast<float>(std::log(static_cast<double>(settings.max_distance) / static_cast<double>(exact)));
  const int64_t bucket = exact + static_cast<int64_t>(share * static_cast<float>(buckets - exact));
  return static_cast<int32_t>(first + std::min(bucket, buckets - 1));
}

RelativePositions::Row RelativePositions::row(int64_t before, int64_t after, Device device) {
  ONDOL_CHECK(before >= 0 && after >= 0, "[relative_positions] from -", before, " to ", after);
  const int64_t wanted = std::max(before, after);
  const auto reach_of = [](const Tensor& table) { return table.size(0) / 2; };
  if (tables_.empty() || reach_of(tables_.back()) < wanted || tables_.back().device() != device) {
    constexpr uint64_t kLeastReach = 256;
    const auto reach = static_cast<int64_t>(std::bit_ceil(std::max(kLeastReach, static_cast<uint64_t>(wanted))));
    std::vector<int32_t> buckets;
    for (int64_t distance = -reach; distance <= reach; ++distance) {
      buckets.push_back(relative_position_bucket(distance, settings_));
    }
    tables_.push_back(Tensor::from_vector(buckets, {2 * reach + 1}, device));
  }
  const Tensor& table = tables_.back();
  return {table.narrow(0, reach_of(table) - before, before + 1 + after), before};
}

}  // namespace ondol
