// The sum of the gradients of micro-batches, over all ranks, in one balanced binary tree over their index.
//
//   GradientSum sum(model.parameters(), ranks);
//   sum.set_contributors(ranks that have micro-batches);
//   for (this rank's micro-batches) { sum.begin(is_last); forward; backward; sum.end(); }
//   sum.finish();                                   // the total is in parameters().flat_gradients()
//
// A binary counter of partial sums: two sums over 2^k micro-batches each meet and become one over 2^(k+1). The tree
// depends on the number of micro-batches alone: ranks that hold aligned power-of-two shares of them (train/ranks.h) and
// add those up in a tree as well (distributed/communicator.h) get the same bytes as one process. Buffers exist for as
// many partial sums as are alive at once (log2 n + 1; one for one micro-batch).
//
// Ranks add up while the backward of their last micro-batch is still at work: in the first step it is seen after which
// layer (after_backward) each parameter's gradient has got all its parts, and from then on the gradients of layers that
// are through are sent in buckets, those used last first. All ranks send the same buckets in the same order, also those
// that have no micro-batch.
//
// With sharding (train/sharding.h) a rank receives the sums of what it keeps alone. Stage 1: in place, what lies
// between is undefined then. Stage 2: every micro-batch is a round of all ranks,
//
//   for (rounds) {
//     sum.set_contributors(ranks that have a micro-batch in this round);
//     has one ? (sum.begin(true); forward; backward; sum.end()) : sum.pass();
//   }
//
// the partial sums are shards, and one flat buffer serves all rounds, whose memory is given back (tensor/give_back.h)
// as soon as a bucket has been sent. In the very first round, where the order is not known, the matrices of a layer are
// sent with the layer if all ranks have a micro-batch. The tree is that of one process when the number of ranks is a
// power of two.
//
// Of its own sum each rank also knows, before it is added to those of others, whether it is finite (own_flag): from the
// sum of its squares.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <ondol/models/layer_hooks.h>

#include "train/ranks.h"
#include "train/sharding.h"

namespace ondol {

class GradientSum final : public LayerHooks {
 public:
  explicit GradientSum(ParameterStore& store, const Ranks& ranks = Ranks(),
                       std::shared_ptr<const Sharding> sharding = nullptr)
      : store_(store), ranks_(ranks), sharding_(std::move(sharding)) {}

  /// Whether ranks add up after every micro-batch.
  bool in_rounds() const { return sharding_ != nullptr && sharding_->stage() >= 2; }
  /// The first so many ranks have micro-batches in the steps, or in the round, that follow.
  void set_contributors(int contributors) { contributors_ = contributors; }
  /// Before a backward: gives the parameters an empty gradient buffer. `last`: the backward is the last one of this
  /// rank before the ranks add up.
  void begin(bool last);
  void before_forward(const LayerParameters& layer) override;
  void after_backward(const LayerParameters& layer) override;
  /// Takes over what the backward has left there.
  void end();
  /// Takes part in a round without a micro-batch.
  void pass();
  /// Adds up what remains, on all ranks, and makes it the store's gradient (in rounds: total() alone).
  void finish();
  /// The sum: flat, in rounds a shard.
  const Tensor& total() const { return total_; }
  /// f64 (1), with several ranks: 0, or NaN when an element of this rank's own gradients is not finite, of the round
  /// that has ended last or of all its micro-batches.
  const Tensor& own_flag() const { return own_flag_; }

  /// Another loss may use the parameters in another order: what was seen of it is forgotten. On all ranks together.
  void forget_order() { order_ = Order(); }

 private:
  struct Partial {
    int rank;  // stands for 2^rank micro-batches, in rounds for 2^rank rounds
    Tensor gradient;
  };
  /// Elements [begin, end) of the flat buffer, whose gradients are complete after so many layers of a backward.
  struct Bucket {
    int64_t layers, begin, end;
  };
  /// A collective that reads elements [begin, end) of the flat buffer.
  struct Sending {
    CommEvent event;
    int64_t begin, end;
  };
  struct Order {
    bool known = false;
    std::vector<int64_t> layers;   // by entry of the store: complete after so many layers
    std::vector<uint32_t> writes;  // by entry, as of the last look
    std::vector<Bucket> buckets;   // in the order of sending; together all elements
    // While it is not known, in rounds:
    std::vector<char> sent;                             // by entry: with its layer
    std::unordered_map<const void*, int> runs_to_come;  // of each layer, in the backward
  };
  Tensor take_buffer();
  Tensor take_shard();
  void merge_last();
  void merge_equals();
  void clear_padding() const;
  void look();
  void send_layer(const LayerParameters& layer);
  void send_others();
  void make_plan();
  std::vector<Bucket> places(const std::function<int64_t(size_t entry)>& layers) const;
  static std::vector<Bucket> joined(const std::vector<Bucket>& ranges);
  std::vector<Bucket> cut(const Bucket& bucket) const;
  void send_until(int64_t layers);
  Tensor add_up(int64_t begin, int64_t end);
  void add_squares(const Tensor& own);
  void finish_flag();
  void send(const Bucket& bucket, const Tensor& flat);
  void end_round();
  void give_back_sent();

  ParameterStore& store_;
  const Ranks ranks_;
  const std::shared_ptr<const Sharding> sharding_;  // null: every rank receives all
  std::vector<Partial> partials_;                   // ranks fall
  std::vector<Tensor> free_;                        // buffers of partial sums
  Tensor current_;                                  // where a backward writes
  Tensor shard_;                                    // in rounds: the sum of the round under way
  Tensor total_;
  Tensor bucket_squares_;  // f64: of what this rank has sent so far, in pieces
  Tensor own_flag_;
  int64_t looked_at_ = 0;  // pieces
  bool last_ = false;
  int64_t layers_ = 0;  // done in this backward
  size_t sent_ = 0;     // buckets of this step, or of the round
  int contributors_ = 1;
  std::deque<Sending> under_way_;
  Order order_;
};

/// The same tree over numbers.
double tree_sum(const std::vector<double>& values);

}  // namespace ondol
