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

}  // namespace ondol
