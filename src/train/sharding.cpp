#include "train/sharding.h"

#include <vector>

#include "train/flat_slices.h"

namespace ondol {

CommEvent Sharding::gather(const Tensor& flat, const ShardRange& range) const {
  if (range.chunk == 0) return {};
  return ranks_.communicator()->all_gather(flat.narrow(0, range.begin, range.chunk * layout_.ranks()),
                                           flat.narrow(0, range.begin + layout_.rank() * range.chunk, range.chunk));
}

void Sharding::gather(const Tensor& flat) const {
  std::vector<CommEvent> events;
  for (const ShardRange& range : layout_.ranges()) events.push_back(gather(flat, range));
  for (const CommEvent& event : events) event.wait();
}

TensorSlices Sharding::slices(const std::string& name, const Tensor& shard) const {
  std::vector<FlatStretch> stretches;
  for (const ShardPart& part : layout_.parts()) {
    stretches.push_back({.begin = part.begin, .values = part.in_shard(shard), .alone = !part.replicated});
  }
  return flat_slices(store_, name, stretches, place_);
}

std::shared_ptr<const Sharding> make_sharding(int64_t stage, const ParameterStore& store, const RankGrid& grid) {
  if (stage == 0 || grid.data().size() == 1) return nullptr;
  return std::make_shared<const Sharding>(stage, store, grid);
}

}  // namespace ondol
