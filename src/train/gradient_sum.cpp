#include "train/gradient_sum.h"

#include <algorithm>
#include <limits>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/optimizer.h>

#include "tensor/give_back.h"

namespace ondol {

namespace {

constexpr int64_t kAtTheEnd = std::numeric_limits<int64_t>::max();
/// Elements of a bucket: enough to make the latency of a collective small, few enough to start early.
constexpr int64_t kBucket = ShardLayout::kPiece;  // so that no range is cut
/// What is complete early, but smaller than this, is not worth a collective of its own.
constexpr int64_t kWorthSending = 64 << 10;

}  // namespace

Tensor GradientSum::take_buffer() {
  if (free_.empty()) {
    return Tensor::zeros({store_.trainable_elements()}, DType::f32, store_.flat_values().device());
  }
  Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

Tensor GradientSum::take_shard() {
  if (free_.empty()) {
    return Tensor::empty({sharding_->layout().shard_elements()}, DType::f32, store_.flat_values().device());
  }
  Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void GradientSum::begin(bool last) {
  if (in_rounds()) {
    current_ = store_.flat_gradients();
  } else if (partials_.empty() && free_.empty() && store_.flat_gradients().defined()) {
    free_.push_back(store_.flat_gradients());
  }
  if (!current_.defined()) current_ = take_buffer();
  store_.use_gradient_buffer(current_);
  store_.clear_gradients();
  if (sharding_ && !in_rounds()) clear_padding();
  last_ = last;
  layers_ = 0;
  if (ranks_.size() > 1) {
    order_.writes.clear();
    for (const ParameterStore::Entry& entry : store_.entries()) order_.writes.push_back(entry.variable.grad_writes());
    if (!order_.known) {
      order_.layers.assign(order_.writes.size(), kAtTheEnd);
      order_.sent.assign(order_.writes.size(), false);
      order_.runs_to_come.clear();
    }
  }
}

/// A reduce_scatter in place may leave anything between the parts of this rank, also where no backward writes.
void GradientSum::clear_padding() const {
  for (const ParameterStore::Entry& entry : store_.entries()) {
    const int64_t count = entry.shape.numel(), padding = -count & (ParameterStore::kBlock - 1);
    if (!entry.trainable || entry.shape.ndim() < 2 || padding == 0) continue;
    current_.narrow(0, entry.offset + count, padding).zero();
  }
}

/// Which gradients have changed since it was last called.
void GradientSum::look() {
  const auto& entries = store_.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    const uint32_t writes = entries[i].variable.grad_writes();
    if (writes == order_.writes[i]) continue;
    order_.writes[i] = writes;
    if (!order_.known && !order_.sent[i]) {
      order_.layers[i] = layers_;
    } else {
      ONDOL_CHECK(layers_ <= order_.layers[i], "the gradient of \"", entries[i].name,
                  "\" goes on changing after it was sent to the other ranks");
    }
  }
}

void GradientSum::before_forward(const LayerParameters& layer) {
  if (in_rounds() && !order_.known) ++order_.runs_to_come[layer.get()];
}

void GradientSum::after_backward(const LayerParameters& layer) {
  if (ranks_.size() == 1 || (order_.known && !last_)) return;
  ++layers_;
  if (order_.known) {  // a parameter that took no part has a gradient of zeros
    const auto& entries = store_.entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      const Variable& parameter = entries[i].variable;
      if (order_.layers[i] == layers_ && !parameter.has_grad()) parameter.grad_target().tensor.zero();
    }
    look();
    send_until(layers_);
  } else {
    look();
    const bool complete = in_rounds() && contributors_ == ranks_.size() && --order_.runs_to_come[layer.get()] == 0;
    if (complete) send_layer(layer);
  }
  if (in_rounds()) give_back_sent();
}

/// Nothing but the layer uses its parameters, so that their gradients are complete.
void GradientSum::send_layer(const LayerParameters& layer) {
  const auto& entries = store_.entries();
  std::vector<size_t> matrices;
  int64_t elements = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto is_it = [&](const Variable& own) { return own.same_as(entries[i].variable); };
    if (!entries[i].trainable || entries[i].shape.ndim() < 2) continue;
    if (std::none_of(layer->begin(), layer->end(), is_it)) continue;
    matrices.push_back(i);
    elements += entries[i].shape.numel();
  }
  if (elements < kWorthSending) return;
  for (const size_t i : matrices) {
    const Variable& parameter = entries[i].variable;
    if (!parameter.has_grad()) parameter.grad_target().tensor.zero();
    order_.writes[i] = parameter.grad_writes();
    order_.layers[i] = layers_;
    order_.sent[i] = true;
    for (const Bucket& bucket : cut({0, entries[i].offset, entries[i].offset + entries[i].shape.numel()})) {
      send(bucket, current_);
    }
  }
}

void GradientSum::send_others() {
  for (const Bucket& range : joined(places([&](size_t i) { return order_.sent[i] ? 0 : kAtTheEnd; }))) {
    if (range.layers == 0) continue;
    for (const Bucket& bucket : cut(range)) send(bucket, current_);
  }
}

void GradientSum::merge_last() {
  Partial later = std::move(partials_.back());
  partials_.pop_back();
  ops::accumulate(partials_.back().gradient, later.gradient);
  ++partials_.back().rank;
  free_.push_back(std::move(later.gradient));
}

void GradientSum::merge_equals() {
  while (partials_.size() > 1 && partials_.back().rank == partials_[partials_.size() - 2].rank) merge_last();
}

void GradientSum::end() {
  if (ranks_.size() > 1 && (last_ || !order_.known)) {
    layers_ = kAtTheEnd;
    look();
  }
  store_.finish_gradients();
  if (in_rounds()) return end_round();
  partials_.push_back({0, std::move(current_)});
  current_ = Tensor();
  if (!last_) merge_equals();  // else finish adds up bucket by bucket
}

void GradientSum::pass() {
  current_ = store_.flat_gradients();
  if (!order_.known) order_.sent.assign(store_.entries().size(), false);
  end_round();
}

/// Sends what is left, and makes the sum of the round a partial sum.
void GradientSum::end_round() {
  if (!order_.known) {
    send_others();
    make_plan();
  } else {
    send_until(kAtTheEnd);
  }
  for (const Sending& sending : under_way_) {
    sending.event.wait();
    give_back(store_.flat_gradients().narrow(0, sending.begin, sending.end - sending.begin));
  }
  under_way_.clear();
  sent_ = 0;
  finish_flag();
  partials_.push_back({0, std::move(shard_)});
  shard_ = Tensor();
  merge_equals();
}

/// Where memory can be given back, the host itself has sent it and knows what has ended.
void GradientSum::give_back_sent() {
  if (current_.device().type != DeviceType::cpu) return;
  while (!under_way_.empty() && under_way_.front().event.done()) {
    const Sending sending = under_way_.front();
    under_way_.pop_front();
    sending.event.wait();
    give_back(current_.narrow(0, sending.begin, sending.end - sending.begin));
  }
}

/// The first rank always has a micro-batch; what it has seen holds for all.
void GradientSum::make_plan() {
  order_.layers = ranks_.gather(ranks_.first() ? order_.layers : std::vector<int64_t>(store_.entries().size()));
  order_.layers.resize(store_.entries().size());
  order_.known = true;
  std::vector<Bucket> ranges = joined(places([&](size_t i) { return order_.layers[i]; }));
  for (Bucket& range : ranges) {
    if (range.end - range.begin < kWorthSending) range.layers = kAtTheEnd;
  }
  ranges = joined(ranges);
  std::stable_sort(ranges.begin(), ranges.end(), [](const Bucket& a, const Bucket& b) { return a.layers < b.layers; });
  order_.buckets.clear();
  for (const Bucket& range : ranges) {
    for (const Bucket& bucket : cut(range)) order_.buckets.push_back(bucket);
  }
}

/// All that is trained, by place.
std::vector<GradientSum::Bucket> GradientSum::places(const std::function<int64_t(size_t entry)>& layers) const {
  std::vector<Bucket> ranges;
  for (size_t i = 0; i < store_.entries().size(); ++i) {
    const ParameterStore::Entry& entry = store_.entries()[i];
    if (entry.trainable) ranges.push_back({layers(i), entry.offset, 0});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Bucket& a, const Bucket& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].end = i + 1 < ranges.size() ? ranges[i + 1].begin : store_.trainable_elements();
    const bool is_vector = ranges[i].begin >= store_.matrix_elements();
    if (sharding_ && is_vector) ranges[i].layers = kAtTheEnd;  // they are one range of the layout
  }
  return ranges;
}

/// Neighbours that are complete at the same time, in one.
std::vector<GradientSum::Bucket> GradientSum::joined(const std::vector<Bucket>& ranges) {
  std::vector<Bucket> out;
  for (const Bucket& range : ranges) {
    if (!out.empty() && out.back().layers == range.layers && out.back().end == range.begin) {
      out.back().end = range.end;
    } else {
      out.push_back(range);
    }
  }
  return out;
}

/// In pieces of at most kBucket elements; with sharding each is one or more whole ranges of the layout.
std::vector<GradientSum::Bucket> GradientSum::cut(const Bucket& bucket) const {
  std::vector<Bucket> pieces;
  if (!sharding_) {
    for (int64_t begin = bucket.begin; begin < bucket.end; begin += kBucket) {
      pieces.push_back({bucket.layers, begin, std::min(begin + kBucket, bucket.end)});
    }
    return pieces;
  }
  for (const ShardRange& range : sharding_->layout().ranges()) {
    if (range.begin < bucket.begin || range.begin >= bucket.end) continue;
    if (!pieces.empty() && range.end - pieces.back().begin <= kBucket) {
      pieces.back().end = range.end;
    } else {
      pieces.push_back({bucket.layers, range.begin, range.end});
    }
  }
  return pieces;
}

/// The tree over this rank's micro-batches ends with additions from right to left, whatever came before. Returns the
/// flat buffer that has the sum.
Tensor GradientSum::add_up(int64_t begin, int64_t end) {
  Tensor sum = current_;
  for (auto partial = partials_.rbegin(); partial != partials_.rend(); ++partial) {
    const Tensor& earlier = partial->gradient;
    if (sum.defined()) ops::accumulate(earlier.narrow(0, begin, end - begin), sum.narrow(0, begin, end - begin));
    sum = earlier;
  }
  return sum;
}

/// Before the sum of all ranks is written over it.
void GradientSum::add_squares(const Tensor& own) {
  if (ranks_.rank() >= contributors_) return;
  if (!bucket_squares_.defined()) {
    const auto most = static_cast<int64_t>(store_.entries().size()) + store_.trainable_elements() / kBucket + 1;
    bucket_squares_ = Tensor::zeros({most}, DType::f64, own.device());
  }
  for (int64_t begin = 0; begin < own.numel(); begin += kBucket) {
    const Tensor piece = own.narrow(0, begin, std::min(kBucket, own.numel() - begin));
    const Tensor squares = Tensor::empty({ops::squares_blocks(piece.numel())}, DType::f64, own.device());
    ops::block_squares(squares, piece);
    ops::sum_all(bucket_squares_.narrow(0, looked_at_++, 1), squares);
  }
}

void GradientSum::finish_flag() {
  if (!own_flag_.defined()) own_flag_ = Tensor::zeros({1}, DType::f64, store_.flat_values().device());
  if (looked_at_ == 0) {
    own_flag_.zero();
  } else {
    ops::sum_all(own_flag_, bucket_squares_.narrow(0, 0, looked_at_));
    own_flag_.copy_from(ops::sub(own_flag_, own_flag_));
  }
  looked_at_ = 0;
}

/// Elements of a bucket to all ranks, or each rank's to that rank.
void GradientSum::send(const Bucket& bucket, const Tensor& flat) {
  add_squares(flat.narrow(0, bucket.begin, bucket.end - bucket.begin));
  if (in_rounds() && !shard_.defined()) shard_ = take_shard();
  Communicator& world = *ranks_.communicator();
  const ReduceOptions options{.contributors = contributors_};
  const auto all_reduce = [&](int64_t begin, int64_t length, int64_t offset) {
    const Tensor in = flat.narrow(0, begin, length);
    const Tensor out = in_rounds() ? shard_.narrow(0, offset, length) : in;
    under_way_.push_back({world.all_reduce(out, in, options), begin, begin + length});
  };
  if (!sharding_) return all_reduce(bucket.begin, bucket.end - bucket.begin, 0);
  const ShardLayout& layout = sharding_->layout();
  ShardPart replicated;  // neighbours in one
  const auto flush = [&] {
    if (replicated.length > 0) all_reduce(replicated.begin, replicated.length, replicated.offset);
    replicated.length = 0;
  };
  auto first = std::lower_bound(layout.parts().begin(), layout.parts().end(), bucket.begin,
                                [](const ShardPart& part, int64_t begin) { return part.begin < begin; });
  for (; first != layout.parts().end() && first->begin < bucket.end; ++first) {
    const ShardPart& part = *first;
    if (part.replicated) {
      if (replicated.begin + replicated.length != part.begin) flush();
      if (replicated.length == 0) {
        replicated = part;
      } else {
        replicated.length += part.length;
      }
      continue;
    }
    flush();
    const ShardRange& range = layout.ranges()[part.range];
    const int64_t length = range.chunk * layout.ranks();
    const Tensor out = in_rounds() ? part.in_shard(shard_) : part.in_flat(flat);
    under_way_.push_back(
        {world.reduce_scatter(out, flat.narrow(0, range.begin, length), options), range.begin, range.begin + length});
  }
  flush();
}

void GradientSum::send_until(int64_t layers) {
  for (; sent_ < order_.buckets.size() && order_.buckets[sent_].layers <= layers; ++sent_) {
    const Bucket& bucket = order_.buckets[sent_];
    send(bucket, in_rounds() ? current_ : add_up(bucket.begin, bucket.end));
  }
}

void GradientSum::finish() {
  if (in_rounds()) {
    while (partials_.size() > 1) merge_last();
    total_ = partials_.front().gradient;
    free_.push_back(total_);  // the next step writes there again, after the update
    partials_.clear();
    return;
  }
  ONDOL_CHECK(!partials_.empty() || ranks_.size() > 1, "no micro-batch to sum the gradients of");
  if (partials_.empty()) partials_.push_back({0, take_buffer()});  // this rank only receives
  if (ranks_.size() > 1) {
    if (!order_.known) make_plan();
    send_until(kAtTheEnd);
    for (const Sending& sending : under_way_) sending.event.wait();
    under_way_.clear();
    sent_ = 0;
    finish_flag();
  } else {
    add_up(0, store_.trainable_elements());
  }
  total_ = partials_.front().gradient;
  store_.use_gradient_buffer(total_);
  for (Partial& partial : partials_) free_.push_back(std::move(partial.gradient));
  partials_.clear();
}

double tree_sum(const std::vector<double>& values) {
  struct Partial {
    int rank;
    double sum;
  };
  std::vector<Partial> partials;
  const auto merge_last = [&] {
    const double later = partials.back().sum;
    partials.pop_back();
    partials.back().sum += later;
    ++partials.back().rank;
  };
  for (const double value : values) {
    partials.push_back({0, value});
    while (partials.size() > 1 && partials.back().rank == partials[partials.size() - 2].rank) merge_last();
  }
  while (partials.size() > 1) merge_last();
  return partials.empty() ? 0.0 : partials.back().sum;
}

}  // namespace ondol
