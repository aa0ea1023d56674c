#include "train/gradient_sum.h"

#include <algorithm>
#include <limits>

#include <ondol/ops/elementwise.h>

namespace ondol {

namespace {

constexpr int64_t kAtTheEnd = std::numeric_limits<int64_t>::max();
/// Elements of a bucket: enough to make the latency of a collective small, few enough to start early.
constexpr int64_t kBucket = 4 << 20;
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

void GradientSum::begin(bool last) {
  if (partials_.empty() && free_.empty() && store_.flat_gradients().defined()) free_.push_back(store_.flat_gradients());
  if (!current_.defined()) current_ = take_buffer();
  store_.use_gradient_buffer(current_);
  store_.clear_gradients();
  last_ = last;
  layers_ = 0;
  if (ranks_.size() > 1) {
    order_.writes.clear();
    for (const ParameterStore::Entry& entry : store_.entries()) order_.writes.push_back(entry.variable.grad_writes());
    if (!order_.known) order_.layers.assign(order_.writes.size(), kAtTheEnd);
  }
}

/// Which gradients have changed since it was last called.
void GradientSum::look() {
  const auto& entries = store_.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    const uint32_t writes = entries[i].variable.grad_writes();
    if (writes == order_.writes[i]) continue;
    order_.writes[i] = writes;
    if (!order_.known) {
      order_.layers[i] = layers_;
    } else {
      ONDOL_CHECK(layers_ <= order_.layers[i], "the gradient of \"", entries[i].name,
                  "\" goes on changing after it was sent to the other ranks");
    }
  }
}

void GradientSum::after_backward(const LayerParameters&) {
  if (ranks_.size() == 1 || (order_.known && !last_)) return;
  ++layers_;
  if (order_.known) {  // a parameter that took no part has a gradient of zeros
    const auto& entries = store_.entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      const Variable& parameter = entries[i].variable;
      if (order_.layers[i] == layers_ && !parameter.has_grad()) parameter.grad_target().tensor.zero();
    }
  }
  look();
  if (order_.known) send_until(layers_);
}

void GradientSum::merge_last() {
  Partial later = std::move(partials_.back());
  partials_.pop_back();
  ops::accumulate(partials_.back().gradient, later.gradient);
  ++partials_.back().rank;
  free_.push_back(std::move(later.gradient));
}

void GradientSum::end() {
  if (ranks_.size() > 1 && (last_ || !order_.known)) {
    layers_ = kAtTheEnd;
    look();
  }
  store_.finish_gradients();
  partials_.push_back({0, std::move(current_)});
  current_ = Tensor();
  if (last_) return;  // finish adds up bucket by bucket
  while (partials_.size() > 1 && partials_.back().rank == partials_[partials_.size() - 2].rank) merge_last();
}

/// The first rank always has a micro-batch; what it has seen holds for all.
void GradientSum::make_plan() {
  order_.layers = ranks_.gather(ranks_.first() ? order_.layers : std::vector<int64_t>(store_.entries().size()));
  order_.layers.resize(store_.entries().size());
  order_.known = true;
  struct Range {
    int64_t layers, begin, end;
  };
  std::vector<Range> ranges;  // by place
  for (size_t i = 0; i < store_.entries().size(); ++i) {
    const ParameterStore::Entry& entry = store_.entries()[i];
    if (entry.trainable) ranges.push_back({order_.layers[i], entry.offset, 0});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].end = i + 1 < ranges.size() ? ranges[i + 1].begin : store_.trainable_elements();
  }
  const auto join = [](std::vector<Range>& all) {
    std::vector<Range> joined;
    for (const Range& range : all) {
      if (!joined.empty() && joined.back().layers == range.layers && joined.back().end == range.begin) {
        joined.back().end = range.end;
      } else {
        joined.push_back(range);
      }
    }
    all = std::move(joined);
  };
  join(ranges);
  for (Range& range : ranges) {
    if (range.end - range.begin < kWorthSending) range.layers = kAtTheEnd;
  }
  join(ranges);
  std::stable_sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.layers < b.layers; });
  order_.buckets.clear();
  for (const Range& range : ranges) {
    for (int64_t begin = range.begin; begin < range.end; begin += kBucket) {
      order_.buckets.push_back({range.layers, begin, std::min(begin + kBucket, range.end)});
    }
  }
}

/// The tree over this rank's micro-batches ends with additions from right to left, whatever came before.
void GradientSum::add_up(int64_t begin, int64_t end) {
  const auto part = [&](const Tensor& flat) { return flat.narrow(0, begin, end - begin); };
  Tensor sum;
  if (current_.defined()) sum = part(current_);
  for (auto partial = partials_.rbegin(); partial != partials_.rend(); ++partial) {
    const Tensor earlier = part(partial->gradient);
    if (sum.defined()) ops::accumulate(earlier, sum);
    sum = earlier;
  }
  if (ranks_.size() > 1) {
    under_way_.push_back(ranks_.communicator()->all_reduce(sum, {.contributors = contributors_}));
  }
}

void GradientSum::send_until(int64_t layers) {
  for (; sent_ < order_.buckets.size() && order_.buckets[sent_].layers <= layers; ++sent_) {
    add_up(order_.buckets[sent_].begin, order_.buckets[sent_].end);
  }
}

void GradientSum::finish() {
  ONDOL_CHECK(!partials_.empty() || ranks_.size() > 1, "no micro-batch to sum the gradients of");
  if (partials_.empty()) partials_.push_back({0, take_buffer()});  // this rank only receives
  if (ranks_.size() > 1) {
    if (!order_.known) make_plan();
    send_until(kAtTheEnd);
    for (const CommEvent& event : under_way_) event.wait();
    under_way_.clear();
    sent_ = 0;
  } else {
    add_up(0, store_.trainable_elements());
  }
  store_.use_gradient_buffer(partials_.front().gradient);
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
