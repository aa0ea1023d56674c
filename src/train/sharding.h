// The state of a training run shared out among the ranks that share its micro-batches (parallel.zero_stage): of a model
// that ranks hold together each has a part, and those with the same part share that out (train/rank_grid.h).
//
//   const auto sharding = make_sharding(config.parallel.zero_stage, model.parameters(), grid);    // null: no sharding
//   const Tensor master = sharding->layout().shard_of(values);  // what this rank keeps
//   CommEvent values = sharding->gather(flat, range);           // what each rank has updated of a range, for all
//
// Stage 1: optimizer state, master weights and their average. Stage 2: gradients too. A tensor of one of them is a
// "shard": what this rank keeps, part by part (train/shard_layout.h). Stage 3: the model's values too, which keep their
// places in the flat buffer (train/value_shards.h).
#pragma once

#include <memory>
#include <string>

#include <ondol/io/tensor_slices.h>

#include "train/rank_grid.h"
#include "train/shard_layout.h"

namespace ondol {

class Sharding {
 public:
  Sharding(int64_t stage, const ParameterStore& store, const RankGrid& grid)
      : stage_(stage),
        store_(store),
        ranks_(grid.data()),
        place_(grid.place()),
        layout_(store, ranks_.rank(), ranks_.size()) {}

  int64_t stage() const { return stage_; }
  bool shares_values() const { return stage_ >= 3; }
  const Ranks& ranks() const { return ranks_; }
  /// Of this process among those that hold a model together.
  const TensorPlace& place() const { return place_; }
  const ShardLayout& layout() const { return layout_; }

  /// Collective: in a flat tensor, what each rank owns of the range, for all. It has begun when this returns.
  CommEvent gather(const Tensor& flat, const ShardRange& range) const;
  /// Of all ranges, waited for.
  void gather(const Tensor& flat) const;

  /// A shard as the part of a flat tensor of that name that this rank has in a checkpoint.
  TensorSlices slices(const std::string& name, const Tensor& shard) const;

 private:
  const int64_t stage_;
  const ParameterStore& store_;
  const Ranks ranks_;
  const TensorPlace place_;
  const ShardLayout layout_;
};

/// Null for stage 0 and where nobody shares the micro-batches with this process. The store must outlive it.
std::shared_ptr<const Sharding> make_sharding(int64_t stage, const ParameterStore& store, const RankGrid& grid);

}  // namespace ondol
