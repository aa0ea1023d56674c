#include <ondol/train/optimizer.h>

#include <algorithm>

#include <ondol/ops/optimizer.h>

#include "train/flat_slices.h"
#include "train/sharding.h"

namespace ondol {

namespace {

/// The span's part of a flat tensor, in its shape.
Tensor part_of(const ParameterSpan& span, const Tensor& flat) {
  if (!flat.defined()) return flat;
  const Tensor part = flat.narrow(0, span.begin, span.rows * span.cols);
  return span.matrix ? part.reshape({span.rows, span.cols}) : part;
}

/// The settings with which such a stretch is updated.
template <class Options, class Stretch>
Options options_for(Options options, const Stretch& stretch) {
  options.weight_decay = stretch.weight_decay;
  options.rate_scale = stretch.rate_scale;
  return options;
}

/// An update of each element by itself: ranks may cut the buffers anywhere.
class ElementwiseOptimizer : public Optimizer {
 protected:
  ElementwiseOptimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master,
                       const std::vector<ParameterSpan>& spans, std::shared_ptr<const Sharding> sharding)
      : Optimizer(config, store, std::move(master), spans, std::move(sharding)), segments_(segments(spans)) {}

  void update(const Tensor& gradients) final {
    bool changed = false;
    for (size_t i = 0; i < segments_.size(); ++i) {
      const Segment& segment = segments_[i];
      if (!is_held(segment.group)) {
        update_segment(segment, part(gradients, segment));
        changed = true;
      }
      const bool last = i + 1 == segments_.size() || segments_[i + 1].range != segment.range;
      if (last && changed) updated(segment.range);
      if (last) changed = false;
    }
  }

  virtual void update_segment(const Segment& segment, const Tensor& gradient) = 0;

 private:
  std::vector<Segment> segments_;
};

class AdamW final : public ElementwiseOptimizer {
 public:
  AdamW(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans,
        std::shared_ptr<const Sharding> sharding)
      : ElementwiseOptimizer(config, store, std::move(master), spans, std::move(sharding)),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2), static_cast<float>(config.eps)},
        exp_avg_(zeros()),
        exp_avg_sq_(zeros()) {}

  void update_segment(const Segment& segment, const Tensor& gradient) override {
    ops::adamw_step({part(master_, segment), part(low_precision_, segment), gradient, part(exp_avg_, segment),
                     part(exp_avg_sq_, segment)},
                    options_for(options_, segment), scalars_of(segment.group));
  }

  NamedTensors buffers() const override { return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}}; }

 private:
  ops::AdamwOptions options_;
  Tensor exp_avg_, exp_avg_sq_;
};

class Sgd final : public ElementwiseOptimizer {
 public:
  Sgd(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans,
      std::shared_ptr<const Sharding> sharding)
      : ElementwiseOptimizer(config, store, std::move(master), spans, std::move(sharding)),
        options_{static_cast<float>(config.momentum), 0.0f, config.nesterov} {
    if (config.momentum > 0.0) momentum_buffer_ = zeros();
  }

  void update_segment(const Segment& segment, const Tensor& gradient) override {
    ops::sgd_step({part(master_, segment), part(low_precision_, segment), gradient, part(momentum_buffer_, segment)},
                  options_for(options_, segment), scalars_of(segment.group));
  }

  NamedTensors buffers() const override {
    if (!momentum_buffer_.defined()) return {};
    return {{"momentum_buffer", momentum_buffer_}};
  }

 private:
  ops::SgdOptions options_;
  Tensor momentum_buffer_;
};

class Lion final : public ElementwiseOptimizer {
 public:
  Lion(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans,
       std::shared_ptr<const Sharding> sharding)
      : ElementwiseOptimizer(config, store, std::move(master), spans, std::move(sharding)),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2)},
        exp_avg_(zeros()) {}

  void update_segment(const Segment& segment, const Tensor& gradient) override {
    ops::lion_step({part(master_, segment), part(low_precision_, segment), gradient, part(exp_avg_, segment)},
                   options_for(options_, segment), scalars_of(segment.group));
  }

  NamedTensors buffers() const override { return {{"exp_avg", exp_avg_}}; }

 private:
  ops::LionOptions options_;
  Tensor exp_avg_;
};

class Lamb final : public Optimizer {
 public:
  Lamb(const OptimizerConfig& config, ParameterStore& store, Tensor master, std::vector<ParameterSpan> spans)
      : Optimizer(config, store, std::move(master), spans, nullptr),
        spans_(std::move(spans)),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2), static_cast<float>(config.eps)},
        exp_avg_(zeros()),
        exp_avg_sq_(zeros()) {}

  void update(const Tensor& gradients) override {
    for (const ParameterSpan& span : spans_) {
      if (is_held(span.group)) continue;
      ops::lamb_step({part_of(span, master_), part_of(span, low_precision_), part_of(span, gradients),
                      part_of(span, exp_avg_), part_of(span, exp_avg_sq_)},
                     options_for(options_, span), scalars_of(span.group));
    }
  }

  NamedTensors buffers() const override { return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}}; }

 private:
  std::vector<ParameterSpan> spans_;
  ops::AdamwOptions options_;
  Tensor exp_avg_, exp_avg_sq_;
};

class Adafactor final : public Optimizer {
 public:
  Adafactor(const OptimizerConfig& config, ParameterStore& store, Tensor master, std::vector<ParameterSpan> spans)
      : Optimizer(config, store, std::move(master), spans, nullptr), spans_(std::move(spans)) {
    const OptimizerConfig::Adafactor& c = config.adafactor;
    options_.eps1 = static_cast<float>(c.eps1);
    options_.eps2 = static_cast<float>(c.eps2);
    options_.clip_threshold = static_cast<float>(c.clip_threshold);
    options_.decay_rate = static_cast<float>(c.decay_rate);
    options_.beta1 = static_cast<float>(c.beta1);
    options_.scale_parameter = c.scale_parameter;
    options_.relative_step = c.relative_step;
    options_.warmup_init = c.warmup_init;
    int64_t rows = 0, columns = 0;
    for (const ParameterSpan& span : spans_) {
      rows += span.matrix ? span.rows : span.cols;
      columns += span.matrix ? span.cols : 0;
    }
    row_ = Tensor::zeros({rows}, DType::f32, master_.device());
    column_ = Tensor::zeros({columns}, DType::f32, master_.device());
    if (c.beta1 > 0.0) exp_avg_ = zeros();
  }

  void update(const Tensor& gradients) override {
    int64_t row = 0, column = 0;
    for (const ParameterSpan& span : spans_) {
      const int64_t rows = span.matrix ? span.rows : span.cols;
      ops::AdafactorState state{part_of(span, master_),
                                part_of(span, low_precision_),
                                part_of(span, gradients),
                                row_.narrow(0, row, rows),
                                {},
                                part_of(span, exp_avg_)};
      row += rows;
      if (span.matrix) {
        state.column = column_.narrow(0, column, span.cols);
        column += span.cols;
      }
      if (!is_held(span.group)) ops::adafactor_step(state, options_for(options_, span), scalars_of(span.group));
    }
  }

  NamedTensors buffers() const override {
    NamedTensors buffers = {{"row", row_}, {"column", column_}};
    if (exp_avg_.defined()) buffers.emplace_back("exp_avg", exp_avg_);
    return buffers;
  }

 private:
  std::vector<ParameterSpan> spans_;
  ops::AdafactorOptions options_;
  Tensor row_, column_, exp_avg_;  // row: of vectors each element's second moment
};

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master,
                     const std::vector<ParameterSpan>& spans, std::shared_ptr<const Sharding> sharding)
    : store_(store), sharding_(std::move(sharding)), master_(std::move(master)), ema_decay_(config.ema_decay) {
  const Tensor values = store.trainable_values();
  const int64_t kept = sharding_ ? sharding_->layout().shard_elements() : values.numel();
  if (values.dtype() == DType::f32) {
    ONDOL_CHECK(!master_.defined(), "an f32 model is its own master");
    master_ = values;
  } else {
    if (!master_.defined()) master_ = (sharding_ ? sharding_->layout().shard_of(values) : values).to(DType::f32);
    ONDOL_CHECK(master_.dtype() == DType::f32 && master_.numel() == kept, "master weights of ", master_.numel(),
                " elements, ", kept, " in f32 expected");
    low_precision_ = values;
  }
  if (sharding_) {
    for (const ShardPart& part : sharding_->layout().parts()) {
      whole_.push_back({.begin = part.begin, .length = part.length, .offset = part.offset, .range = part.range});
    }
  } else {
    whole_.push_back({.length = values.numel()});
  }
  if (ema_decay_ > 0.0) {
    average_ = zeros();
    for (const Segment& segment : whole_) part(average_, segment).copy_from(part(master_, segment));
  }
  int64_t groups = 1;
  for (const ParameterSpan& span : spans) groups = std::max(groups, span.group + 1);
  for (int64_t group = 0; group < groups; ++group) {
    scalars_.push_back(ops::make_optimizer_scalars(master_.device()));
    ops::set_optimizer_scalars(scalars_.back(), 0.0f, 1.0f, 0);
  }
  for (const ParameterSpan& span : spans) {
    for (const ParameterStore::Entry& entry : store.entries()) {
      const int64_t end = entry.offset + entry.shape.numel();
      const bool inside = entry.trainable && span.begin >= entry.offset && span.begin < end;
      if (groups > 1 && inside) members_.emplace_back(entry.variable, span.group);
    }
  }
}

void Optimizer::hold_below(int64_t group) {
  held_ = std::min(group, groups() - 1);
  for (const auto& [parameter, own] : members_) parameter.set_requires_grad(!is_held(own));
}

std::vector<Optimizer::Segment> Optimizer::segments(const std::vector<ParameterSpan>& spans) const {
  std::vector<Segment> alike;  // of the flat buffers, each up to where the next one begins
  for (const ParameterSpan& span : spans) {
    const bool same = !alike.empty() && alike.back().rate_scale == span.rate_scale &&
                      alike.back().weight_decay == span.weight_decay && alike.back().group == span.group;
    if (same) continue;
    alike.push_back(
        {.begin = span.begin, .rate_scale = span.rate_scale, .weight_decay = span.weight_decay, .group = span.group});
  }
  std::vector<Segment> out;
  for (const Segment& kept : whole_) {
    for (size_t i = 0; i < alike.size(); ++i) {
      const int64_t begin = std::max(kept.begin, i == 0 ? 0 : alike[i].begin);
      const int64_t end =
          std::min(kept.begin + kept.length, i + 1 < alike.size() ? alike[i + 1].begin : store_.trainable_elements());
      if (begin >= end) continue;
      Segment segment = alike[i];
      segment.begin = begin;
      segment.length = end - begin;
      segment.offset = kept.offset + begin - kept.begin;
      segment.range = kept.range;
      out.push_back(segment);
    }
  }
  return out;
}

Tensor Optimizer::part(const Tensor& tensor, const Segment& segment) const {
  if (!tensor.defined()) return {};
  const bool flat = tensor.numel() == store_.trainable_elements();
  return tensor.narrow(0, flat ? segment.begin : segment.offset, segment.length);
}

Tensor Optimizer::zeros() const {
  const int64_t kept = sharding_ ? sharding_->layout().shard_elements() : master_.numel();
  return Tensor::zeros({kept}, DType::f32, master_.device());
}

void Optimizer::updated(size_t range) {
  if (sharding_ && !sharding_->shares_values()) {
    under_way_.push_back(sharding_->gather(store_.trainable_values(), sharding_->layout().ranges()[range]));
  }
}

void Optimizer::step(const OptimizerStep& step) {
  for (const ops::OptimizerScalarsTensor& scalars : scalars_) {
    ops::set_optimizer_scalars(scalars, static_cast<float>(step.learning_rate), static_cast<float>(step.gradient_scale),
                               step.update);
  }
  apply(store_.flat_gradients());
}

void Optimizer::apply(const Tensor& gradients) {
  update(gradients);
  if (average_.defined()) {
    for (const Segment& segment : whole_) {
      ops::ema_step(part(average_, segment), part(master_, segment), ema_decay_, scalars());
    }
  }
  for (const CommEvent& event : under_way_) event.wait();
  under_way_.clear();
  store_.refresh_sums();
}

NamedTensors Optimizer::state() const {
  NamedTensors tensors = buffers();
  if (average_.defined()) tensors.emplace_back("average", average_);
  for (int64_t group = 0; groups() > 1 && group < groups(); ++group) {
    tensors.emplace_back(concat("scalars.", group), scalars_of(group).bytes);
  }
  return tensors;
}

TensorSlices Optimizer::slices(const std::string& name, const Tensor& tensor) const {
  const bool shard = sharding_ && tensor.numel() == sharding_->layout().shard_elements();
  return shard ? sharding_->slices(name, tensor) : flat_slices(store_, name, tensor);
}

std::vector<TensorSlices> Optimizer::state_slices() const {
  std::vector<TensorSlices> all;
  for (const auto& [name, tensor] : state()) {
    all.push_back(name.starts_with("scalars.") ? whole_tensor(name, tensor) : slices(name, tensor));
  }
  return all;
}

AveragedWeights::AveragedWeights(ParameterStore& store, const Optimizer& optimizer)
    : store_(store), values_(store.trainable_values()), sharding_(optimizer.sharding()) {
  if (!optimizer.average().defined()) return;
  saved_ = shares_values() ? sharding_->layout().shard_of(values_) : values_.clone();
  optimizer.publish(optimizer.average());
}

bool AveragedWeights::shares_values() const { return sharding_ != nullptr && sharding_->shares_values(); }

AveragedWeights::~AveragedWeights() {
  if (!saved_.defined()) return;
  if (shares_values()) {
    for (const ShardPart& part : sharding_->layout().parts()) part.in_flat(values_).copy_from(part.in_shard(saved_));
  } else {
    values_.copy_from(saved_);
  }
  store_.refresh_sums();
}

void Optimizer::publish(const Tensor& weights) const {
  const Tensor values = store_.trainable_values();
  if (weights.raw() != values.raw()) {
    for (const Segment& segment : whole_) part(values, segment).copy_from(part(weights, segment));
    if (sharding_ && !sharding_->shares_values()) sharding_->gather(values);
  }
  store_.refresh_sums();
}

ParameterSpan make_span(const OptimizerConfig& config, const ParameterStore::Entry& entry) {
  if (config.decay != "all" && config.decay != "matrices") {
    throw UsageError(concat("unknown optimizer.decay \"", config.decay, "\": expected matrices or all"));
  }
  ParameterSpan span;
  span.begin = entry.offset;
  span.matrix = entry.shape.ndim() >= 2;
  span.rows = span.matrix ? entry.shape[0] : 1;
  span.cols = span.rows > 0 ? entry.shape.numel() / span.rows : 0;
  if (span.matrix || config.decay == "all") span.weight_decay = static_cast<float>(config.weight_decay);
  return span;
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master,
                                          std::vector<ParameterSpan> spans, std::shared_ptr<const Sharding> sharding) {
  if (spans.empty()) {
    for (const ParameterStore::Entry& entry : store.entries()) {
      if (entry.trainable) spans.push_back(make_span(config, entry));
    }
    std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  }
  const bool whole_tensors = config.type == "lamb" || config.type == "adafactor";
  if (sharding && whole_tensors) {
    throw UsageError(concat("optimizer.type \"", config.type,
                            "\" needs whole tensors: its state cannot be shared out by parallel.zero_stage ",
                            sharding->stage()));
  }
  if (config.type == "adamw") return std::make_unique<AdamW>(config, store, std::move(master), spans, sharding);
  if (config.type == "sgd") return std::make_unique<Sgd>(config, store, std::move(master), spans, sharding);
  if (config.type == "lion") return std::make_unique<Lion>(config, store, std::move(master), spans, sharding);
  if (config.type == "lamb") return std::make_unique<Lamb>(config, store, std::move(master), std::move(spans));
  if (config.type == "adafactor")
    return std::make_unique<Adafactor>(config, store, std::move(master), std::move(spans));
  throw UsageError(concat("unknown optimizer \"", config.type, "\": expected adamw, sgd, lion, lamb or adafactor"));
}

}  // namespace ondol
