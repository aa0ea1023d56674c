// The processes of a run as a grid. `tensor` consecutive ranks form a tensor group: they hold one model together
// (models/tensor_parallel.h) and see the same micro-batches. The ranks with the same place in their groups form a data
// group: they share the micro-batches of a step (train/ranks.h).
//
//   const RankGrid grid(world, 2);          // 4 ranks: tensor groups {0, 1}, {2, 3}; data groups {0, 2}, {1, 3}
//   split_model(model, grid.place());
//   TrainingStep step(model, optimizer, settings, grid.data());
#pragma once

#include <memory>

#include <ondol/models/tensor_parallel.h>

#include "train/ranks.h"

namespace ondol {

class RankGrid {
 public:
  /// All ranks share the micro-batches, each has a whole model.
  RankGrid(const Ranks& all = Ranks()) : all_(all), data_(all) {}  // NOLINT: ranks are a grid
  /// Collective unless tensor is 1, which must divide the number of ranks. `world` (null: one process) must outlive
  /// this and its copies.
  RankGrid(Communicator* world, int tensor);

  /// All processes of the run.
  const Ranks& all() const { return all_; }
  const Ranks& data() const { return data_; }
  /// Of this process in its tensor group.
  TensorPlace place() const;
  /// Ranks of a tensor group.
  int tensor() const { return all_.size() / data_.size(); }
  /// Of the communicators of all processes and of both groups together; late_seconds by rank of the run.
  CommStatistics statistics() const;

 private:
  Ranks all_, data_;
  std::shared_ptr<Communicator> tensor_group_, data_group_;  // null: of one process, or all of them
};

}  // namespace ondol
