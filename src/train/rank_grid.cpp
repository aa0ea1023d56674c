#include "train/rank_grid.h"

namespace ondol {

RankGrid::RankGrid(Communicator* world, int tensor) : all_(world), data_(world) {
  if (tensor == 1) return;
  ONDOL_CHECK(all_.size() % tensor == 0, tensor, " processes for each model do not divide ", all_.size(), " processes");
  tensor_group_ = world->split(all_.rank() / tensor);
  data_group_ = world->split(all_.rank() % tensor);
  data_ = Ranks(data_group_->size() == 1 ? nullptr : data_group_.get());
}

TensorPlace RankGrid::place() const {
  if (tensor_group_ == nullptr) return {};
  return {tensor_group_->rank(), tensor_group_->size(), tensor_group_.get(), data_.size(), data_.rank()};
}

CommStatistics RankGrid::statistics() const {
  CommStatistics sum;
  sum.late_seconds.resize(static_cast<size_t>(all_.size()));
  for (const Communicator* group : {all_.communicator(), tensor_group_.get(), data_group_.get()}) {
    if (group == nullptr) continue;
    const CommStatistics own = group->statistics();
    sum.collectives += own.collectives;
    sum.bytes += own.bytes;
    sum.busy_seconds += own.busy_seconds;
    sum.exposed_seconds += own.exposed_seconds;
    for (size_t i = 0; i < own.late_seconds.size(); ++i) {
      sum.late_seconds[static_cast<size_t>(group->world_rank(static_cast<int>(i)))] += own.late_seconds[i];
    }
  }
  return sum;
}

}  // namespace ondol
