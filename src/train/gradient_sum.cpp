#include "train/gradient_sum.h"

#include <ondol/ops/elementwise.h>

namespace ondol {

Tensor GradientSum::take_buffer() {
  if (free_.empty()) {
    return Tensor::zeros({store_.trainable_elements()}, DType::f32, store_.flat_values().device());
  }
  Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void GradientSum::begin() {
  if (partials_.empty() && free_.empty() && store_.flat_gradients().defined()) free_.push_back(store_.flat_gradients());
  if (!current_.defined()) current_ = take_buffer();
  store_.use_gradient_buffer(current_);
  store_.clear_gradients();
}

void GradientSum::merge_last() {
  Partial later = std::move(partials_.back());
  partials_.pop_back();
  ops::accumulate(partials_.back().gradient, later.gradient);
  ++partials_.back().rank;
  free_.push_back(std::move(later.gradient));
}

void GradientSum::end() {
  store_.finish_gradients();
  partials_.push_back({0, std::move(current_)});
  current_ = Tensor();
  while (partials_.size() > 1 && partials_.back().rank == partials_[partials_.size() - 2].rank) merge_last();
}

void GradientSum::finish() {
  ONDOL_CHECK(!partials_.empty(), "no micro-batch to sum the gradients of");
  while (partials_.size() > 1) merge_last();
  store_.use_gradient_buffer(partials_.back().gradient);
  free_.push_back(std::move(partials_.back().gradient));
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
