// The values of a model shared out among ranks: each one keeps its part, and has the rest only while it is used.
//
//   ValueShards shards(model.parameters(), sharding);
//   shards.release();                                     // from here on parameters are withheld (Variable::withhold)
//   {
//     const ValueShards::Use use(&shards);                // what belongs to no layer is gathered ...
//     context.layers = &shards;                           // ... and each layer while it works, the next one beforehand
//     ... forward, backward ...
//   }                                                     // and given back
//   const ValueShards::Whole whole(&shards);              // or all of it, to evaluate a whole model
//
// Matrices of what is trained are shared out as the ShardLayout says; vectors, the ends of matrices that do not divide,
// and what is not trained stay on all ranks. Values keep their place in the flat buffer: a gather writes the parts of
// other ranks there, and giving back leaves their addresses without memory (tensor/give_back.h), on a GPU with it.
//
// Collective: all ranks run the same layers in the same order. Which layer comes next is learnt from the pass before.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include <ondol/models/model.h>

#include "train/sharding.h"

namespace ondol {

class ValueShards final : public LayerHooks {
 public:
  /// The store must outlive this. Everything is there at first. Throws UsageError for a store with sums of parameters
  /// (ParameterStore::set_base), which need both of them whole.
  ValueShards(const ParameterStore& store, std::shared_ptr<const Sharding> sharding);
  ~ValueShards() override;
  ValueShards(const ValueShards&) = delete;
  ValueShards& operator=(const ValueShards&) = delete;

  /// The parts of the model's weights that are always here, for its files. Must not be used after this is gone.
  HeldParts held() const;

  /// Gives back what other ranks keep. What is under way is waited for.
  void release();

  /// While it lives, parameters that belong to no layer are there. At its end everything is given back. Does nothing
  /// with null.
  class Use {
   public:
    explicit Use(ValueShards* shards);
    ~Use() noexcept(false);
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    ValueShards* const shards_;
    const int exceptions_;
  };
  /// While it lives, all parameters are there; layers let go of nothing. Does nothing with null.
  class Whole {
   public:
    explicit Whole(ValueShards* shards);
    ~Whole() noexcept(false);
    Whole(const Whole&) = delete;
    Whole& operator=(const Whole&) = delete;

   private:
    ValueShards* const shards_;
    const int exceptions_;
  };

  void before_forward(const LayerParameters& layer) override { enter(layer, kForward); }
  void after_forward(const LayerParameters& layer) override { leave(layer, kForward); }
  void before_backward(const LayerParameters& layer) override { enter(layer, kBackward); }
  void after_backward(const LayerParameters& layer) override { leave(layer, kBackward); }

 private:
  /// What is gathered and given back together: a layer, or all that belongs to none (the last group).
  struct Group {
    std::vector<ShardRange> ranges;
    std::vector<size_t> entries;  // of the store
    enum class State { here, coming, away } state = State::here;
    std::vector<CommEvent> under_way;
  };
  enum Direction : size_t { kForward = 0, kBackward = 1 };
  static constexpr size_t kUnknown = SIZE_MAX;

  void enter(const LayerParameters& layer, Direction direction);
  void leave(const LayerParameters& layer, Direction direction);
  size_t group_of(const LayerParameters& layer) const;
  void fetch(Group& group);
  void await(Group& group);
  void give_back_group(Group& group);
  void withhold(const Group& group, bool withheld) const;

  const ParameterStore& store_;
  const std::shared_ptr<const Sharding> sharding_;
  std::vector<Group> groups_;
  std::unordered_map<const void*, size_t> group_of_parameter_;
  // A visit is a layer in a direction: 2 group + direction.
  std::vector<size_t> next_visit_;  // by visit: which one came after it
  size_t last_visit_ = kUnknown;
  bool whole_ = false;
};

}  // namespace ondol
