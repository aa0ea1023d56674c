#include <ondol/train/optimizer.h>

#include <algorithm>

#include <ondol/ops/optimizer.h>

namespace ondol {

namespace {

/// One stretch of the flat buffers that is updated alike.
struct Segment {
  int64_t begin = 0;
  int64_t length = 0;
  float rate_scale = 1.0f, weight_decay = 0.0f;
  int64_t group = 0;

  Tensor of(const Tensor& flat) const { return flat.defined() ? flat.narrow(0, begin, length) : Tensor(); }
};

/// Neighbours with the same settings in one, up to where the next ones begin.
std::vector<Segment> merge(const std::vector<ParameterSpan>& spans, int64_t elements) {
  std::vector<Segment> segments;
  for (const ParameterSpan& span : spans) {
    const bool same = !segments.empty() && segments.back().rate_scale == span.rate_scale &&
                      segments.back().weight_decay == span.weight_decay && segments.back().group == span.group;
    if (!same) segments.push_back({span.begin, 0, span.rate_scale, span.weight_decay, span.group});
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    segments[i].length = (i + 1 < segments.size() ? segments[i + 1].begin : elements) - segments[i].begin;
  }
  return segments;
}

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

class AdamW final : public Optimizer {
 public:
  AdamW(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans)
      : Optimizer(config, store, std::move(master), spans),
        segments_(merge(spans, store.trainable_elements())),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2), static_cast<float>(config.eps)},
        exp_avg_(zeros()),
        exp_avg_sq_(zeros()) {}

  void update() override {
    for (const Segment& segment : segments_) {
      if (is_held(segment.group)) continue;
      ops::adamw_step({segment.of(master_), segment.of(low_precision_), segment.of(store_.flat_gradients()),
                       segment.of(exp_avg_), segment.of(exp_avg_sq_)},
                      options_for(options_, segment), scalars_of(segment.group));
    }
  }

  NamedTensors buffers() const override { return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}}; }

 private:
  std::vector<Segment> segments_;
  ops::AdamwOptions options_;
  Tensor exp_avg_, exp_avg_sq_;
};

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans)
      : Optimizer(config, store, std::move(master), spans),
        segments_(merge(spans, store.trainable_elements())),
        options_{static_cast<float>(config.momentum), 0.0f, config.nesterov} {
    if (config.momentum > 0.0) momentum_buffer_ = zeros();
  }

  void update() override {
    for (const Segment& segment : segments_) {
      if (is_held(segment.group)) continue;
      ops::sgd_step({segment.of(master_), segment.of(low_precision_), segment.of(store_.flat_gradients()),
                     segment.of(momentum_buffer_)},
                    options_for(options_, segment), scalars_of(segment.group));
    }
  }

  NamedTensors buffers() const override {
    if (!momentum_buffer_.defined()) return {};
    return {{"momentum_buffer", momentum_buffer_}};
  }

 private:
  std::vector<Segment> segments_;
  ops::SgdOptions options_;
  Tensor momentum_buffer_;
};

class Lion final : public Optimizer {
 public:
  Lion(const OptimizerConfig& config, ParameterStore& store, Tensor master, const std::vector<ParameterSpan>& spans)
      : Optimizer(config, store, std::move(master), spans),
        segments_(merge(spans, store.trainable_elements())),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2)},
        exp_avg_(zeros()) {}

  void update() override {
    for (const Segment& segment : segments_) {
      if (is_held(segment.group)) continue;
      ops::lion_step(
          {segment.of(master_), segment.of(low_precision_), segment.of(store_.flat_gradients()), segment.of(exp_avg_)},
          options_for(options_, segment), scalars_of(segment.group));
    }
  }

  NamedTensors buffers() const override { return {{"exp_avg", exp_avg_}}; }

 private:
  std::vector<Segment> segments_;
  ops::LionOptions options_;
  Tensor exp_avg_;
};

class Lamb final : public Optimizer {
 public:
  Lamb(const OptimizerConfig& config, ParameterStore& store, Tensor master, std::vector<ParameterSpan> spans)
      : Optimizer(config, store, std::move(master), spans),
        spans_(std::move(spans)),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2), static_cast<float>(config.eps)},
        exp_avg_(zeros()),
        exp_avg_sq_(zeros()) {}

  void update() override {
    for (const ParameterSpan& span : spans_) {
      if (is_held(span.group)) continue;
      ops::lamb_step({part_of(span, master_), part_of(span, low_precision_), part_of(span, store_.flat_gradients()),
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
      : Optimizer(config, store, std::move(master), spans), spans_(std::move(spans)) {
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

  void update() override {
    int64_t row = 0, column = 0;
    for (const ParameterSpan& span : spans_) {
      const int64_t rows = span.matrix ? span.rows : span.cols;
      ops::AdafactorState state{part_of(span, master_),
                                part_of(span, low_precision_),
                                part_of(span, store_.flat_gradients()),
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
                     const std::vector<ParameterSpan>& spans)
    : store_(store), master_(std::move(master)), ema_decay_(config.ema_decay) {
  const Tensor values = store.trainable_values();
  if (values.dtype() == DType::f32) {
    ONDOL_CHECK(!master_.defined(), "an f32 model is its own master");
    master_ = values;
  } else {
    if (!master_.defined()) master_ = values.to(DType::f32);
    low_precision_ = values;
  }
  ONDOL_CHECK(master_.dtype() == DType::f32 && master_.numel() == values.numel(), "master weights of ", master_.numel(),
              " elements, ", values.numel(), " in f32 expected");
  if (ema_decay_ > 0.0) average_ = master_.clone();
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

void Optimizer::step(const OptimizerStep& step) {
  for (const ops::OptimizerScalarsTensor& scalars : scalars_) {
    ops::set_optimizer_scalars(scalars, static_cast<float>(step.learning_rate), static_cast<float>(step.gradient_scale),
                               step.update);
  }
  apply();
}

void Optimizer::apply() {
  update();
  if (average_.defined()) ops::ema_step(average_, master_, ema_decay_, scalars());
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

AveragedWeights::AveragedWeights(ParameterStore& store, const Optimizer& optimizer)
    : store_(store), values_(store.trainable_values()) {
  if (!optimizer.average().defined()) return;
  saved_ = values_.clone();
  values_.copy_from(optimizer.average());
  store_.refresh_sums();
}

AveragedWeights::~AveragedWeights() {
  if (!saved_.defined()) return;
  values_.copy_from(saved_);
  store_.refresh_sums();
}

void Optimizer::publish() const {
  if (low_precision_.defined()) low_precision_.copy_from(master_);
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
                                          std::vector<ParameterSpan> spans) {
  if (spans.empty()) {
    for (const ParameterStore::Entry& entry : store.entries()) {
      if (entry.trainable) spans.push_back(make_span(config, entry));
    }
    std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  }
  if (config.type == "adamw") return std::make_unique<AdamW>(config, store, std::move(master), spans);
  if (config.type == "sgd") return std::make_unique<Sgd>(config, store, std::move(master), spans);
  if (config.type == "lion") return std::make_unique<Lion>(config, store, std::move(master), spans);
  if (config.type == "lamb") return std::make_unique<Lamb>(config, store, std::move(master), std::move(spans));
  if (config.type == "adafactor")
    return std::make_unique<Adafactor>(config, store, std::move(master), std::move(spans));
  throw UsageError(concat("unknown optimizer \"", config.type, "\": expected adamw, sgd, lion, lamb or adafactor"));
}

}  // namespace ondol
