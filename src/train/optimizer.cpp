#include <ondol/train/optimizer.h>

#include <ondol/ops/optimizer.h>

namespace ondol {

namespace {

/// One stretch of the flat buffers with its own weight decay.
struct Segment {
  int64_t begin = 0;
  int64_t length = 0;
  float weight_decay = 0.0f;

  Tensor of(const Tensor& flat) const { return flat.defined() ? flat.narrow(0, begin, length) : Tensor(); }
};

std::vector<Segment> decay_segments(const OptimizerConfig& config, const ParameterStore& store) {
  const auto decay = static_cast<float>(config.weight_decay);
  const int64_t all = store.trainable_elements(), matrices = store.matrix_elements();
  std::vector<Segment> segments;
  if (config.decay == "all") {
    segments = {{0, all, decay}};
  } else if (config.decay == "matrices") {
    segments = {{0, matrices, decay}, {matrices, all - matrices, 0.0f}};
  } else {
    throw UsageError(concat("unknown optimizer.decay \"", config.decay, "\": expected matrices or all"));
  }
  std::erase_if(segments, [](const Segment& segment) { return segment.length == 0; });
  return segments;
}

class AdamW final : public Optimizer {
 public:
  AdamW(const OptimizerConfig& config, ParameterStore& store, Tensor master)
      : Optimizer(config, store, std::move(master)),
        segments_(decay_segments(config, store)),
        options_{static_cast<float>(config.beta1), static_cast<float>(config.beta2), static_cast<float>(config.eps),
                 0.0f},
        exp_avg_(Tensor::zeros(master_.shape(), DType::f32, master_.device())),
        exp_avg_sq_(Tensor::zeros(master_.shape(), DType::f32, master_.device())) {}

  void update() override {
    for (const Segment& segment : segments_) {
      ops::AdamwOptions options = options_;
      options.weight_decay = segment.weight_decay;
      ops::adamw_step({segment.of(master_), segment.of(low_precision_), segment.of(store_.flat_gradients()),
                       segment.of(exp_avg_), segment.of(exp_avg_sq_)},
                      options, scalars_);
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
  Sgd(const OptimizerConfig& config, ParameterStore& store, Tensor master)
      : Optimizer(config, store, std::move(master)),
        segments_(decay_segments(config, store)),
        options_{static_cast<float>(config.momentum), 0.0f, config.nesterov} {
    if (config.momentum > 0.0) momentum_buffer_ = Tensor::zeros(master_.shape(), DType::f32, master_.device());
  }

  void update() override {
    for (const Segment& segment : segments_) {
      ops::SgdOptions options = options_;
      options.weight_decay = segment.weight_decay;
      ops::sgd_step({segment.of(master_), segment.of(low_precision_), segment.of(store_.flat_gradients()),
                     segment.of(momentum_buffer_)},
                    options, scalars_);
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

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master)
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
  scalars_ = ops::make_optimizer_scalars(master_.device());
}

void Optimizer::step(const OptimizerStep& step) {
  ops::set_optimizer_scalars(scalars_, static_cast<float>(step.learning_rate), static_cast<float>(step.gradient_scale),
                             step.update);
  apply();
}

void Optimizer::apply() {
  update();
  if (average_.defined()) ops::ema_step(average_, master_, ema_decay_, scalars_);
  store_.refresh_sums();
}

NamedTensors Optimizer::state() const {
  NamedTensors tensors = buffers();
  if (average_.defined()) tensors.emplace_back("average", average_);
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

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master) {
  if (config.type == "adamw") return std::make_unique<AdamW>(config, store, std::move(master));
  if (config.type == "sgd") return std::make_unique<Sgd>(config, store, std::move(master));
  throw UsageError(concat("unknown optimizer \"", config.type, "\": expected adamw or sgd"));
}

}  // namespace ondol
