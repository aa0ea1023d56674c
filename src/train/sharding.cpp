#include "train/sharding.h"

#include <vector>

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
  TensorSlices slices{.name = name, .shape = {layout_.flat_elements()}, .dtype = shard.dtype(), .parts = {}};
  for (const ShardPart& part : layout_.parts()) {
    slices.parts.push_back({.begin = part.begin, .values = part.in_shard(shard), .copies = part.replicated ? 0 : 1});
  }
  return slices;
}

std::shared_ptr<const Sharding> make_sharding(int64_t stage, const ParameterStore& store, const Ranks& ranks) {
  if (stage == 0 || ranks.size() == 1) return nullptr;
  return std::make_shared<const Sharding>(stage, store, ranks);
}

}  // namespace ondol
