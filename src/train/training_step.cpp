#include "train/training_step.h"

#include <algorithm>
#include <cmath>

#include <ondol/autograd/low_rank.h>

namespace ondol {

namespace {

/// Streams of random numbers that one micro-batch may use; layers number their own below it.
constexpr uint32_t kStreamsPerMicroBatch = 1u << 16;
constexpr uint32_t kLowRankStreams = 1u << 15;  // of those, the first that adapters use

}  // namespace

bool GradientResult::finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }

TrainingStep::TrainingStep(Model& model, Optimizer& optimizer, const TrainingStepSettings& settings)
    : model_(model),
      optimizer_(optimizer),
      settings_(settings),
      sum_(model.parameters()),
      batch_(model.device()),
      step_(Tensor::zeros({1}, DType::i64, model.device())),
      sum_squares_(Tensor::zeros({1}, DType::f64, model.device())),
      graph_(model.device()) {
  model.parameters().enable_gradients();
  // Several groups count their updates by themselves, and checkpoints keep the counts.
  if (optimizer_.groups() == 1) ops::set_optimizer_scalars(optimizer_.scalars(), 0.0f, 1.0f, settings_.updates);
}

void TrainingStep::upload_inputs(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  const int64_t micro_batches = (batch.size() + arguments.micro_batch_size - 1) / arguments.micro_batch_size;
  if (!losses_.defined() || losses_.numel() != micro_batches) {
    losses_ = Tensor::zeros({micro_batches}, DType::f32, model_.device());
  }
  const auto named = static_cast<int64_t>(objective.loss_names().size());
  if (named == 0) {
    terms_ = Tensor();
  } else if (!terms_.defined() || terms_.shape() != Shape{named, micro_batches}) {
    terms_ = Tensor::zeros({named, micro_batches}, DType::f32, model_.device());
  }
  batch_.load(batch);
  upload(step_, Tensor::from_vector(std::vector<int64_t>{arguments.step}, {1}));
  std::vector<float> scales;
  for (const LossScale& scale : mean_scales(objective.count_targets(batch, model_))) scales.push_back(scale.value);
  const auto terms = static_cast<int64_t>(scales.size());
  if (!loss_scales_.defined() || loss_scales_.numel() != terms) {
    loss_scales_ = Tensor::zeros({terms}, DType::f32, model_.device());
  }
  upload(loss_scales_, Tensor::from_vector(scales, {terms}));
}

/// From the uploaded inputs to losses_, the sum of all gradients and the sum of their squares.
void TrainingStep::backward(const Objective& objective, int64_t micro_batch_size) {
  const Batch& batch = batch_.batch();
  std::vector<LossScale> scales;
  for (int64_t i = 0; i < loss_scales_.numel(); ++i) scales.emplace_back(1.0, loss_scales_.narrow(0, i, 1));
  for (int64_t i = 0; i < losses_.numel(); ++i) {
    const int64_t begin = i * micro_batch_size;
    ForwardContext context;
    context.training = settings_.dropout;
    context.recompute_layers = settings_.gradient_checkpointing;
    context.rng = {settings_.seed, static_cast<uint32_t>(i) * kStreamsPerMicroBatch, step_};
    sum_.begin();
    std::optional<LowRankDropout> low_rank_dropout;
    RngKey low_rank_key = context.rng;
    low_rank_key.stream += kLowRankStreams;
    if (context.training) low_rank_dropout.emplace(low_rank_key);
    Tape tape;
    const Batch rows = batch.rows(begin, std::min(micro_batch_size, batch.size() - begin));
    const std::vector<Variable> terms = objective.losses(model_, rows, scales, context);
    const Variable loss = total_loss(terms);
    for (int64_t t = 0; terms_.defined() && t < terms_.size(0); ++t) {
      const Tensor place = terms_.narrow(0, t, 1).narrow(1, i, 1);
      const Variable& term = terms.at(static_cast<size_t>(t));
      if (term.defined()) {
        place.copy_from(term.value().reshape({1, 1}));
      } else {
        place.zero();
      }
    }
    losses_.narrow(0, i, 1).copy_from(loss.value().reshape({1}));
    tape.backward(loss);
    sum_.end();
  }
  sum_.finish();
  ops::sum_squares_into(sum_squares_, model_.parameters().flat_gradients());
}

void TrainingStep::start_reading() {
  started_.push_back({PendingRead(losses_), PendingRead(sum_squares_), std::nullopt});
  if (terms_.defined()) started_.back().terms.emplace(terms_);
}

void TrainingStep::start(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  upload_inputs(objective, batch, arguments);
  optimizer_.hold_below(arguments.held_below);
  const std::vector<ops::OptimizerScalarsTensor> scalars = optimizer_.active_scalars();
  for (const ops::OptimizerScalarsTensor& group : scalars) {
    ops::upload_learning_rate(group, static_cast<float>(arguments.learning_rate));
  }
  const std::string shape = concat(objective.settings(), " ", arguments.micro_batch_size, batch_.layout(), " ",
                                   arguments.held_below, " ", model_.info().rope_theta.value_or(0.0));
  graph_.run(shape, [&] {
    backward(objective, arguments.micro_batch_size);
    for (const ops::OptimizerScalarsTensor& group : scalars) {
      ops::clip_gradient(group, losses_, sum_squares_, settings_.max_grad_norm, settings_.stop_at_non_finite);
    }
    optimizer_.apply();
  });
  start_reading();
}

GradientResult TrainingStep::wait() {
  ONDOL_CHECK(!started_.empty(), "no training step was started");
  Result result = std::move(started_.front());
  started_.pop_front();
  const std::vector<float> losses = result.losses.wait_values<float>();
  GradientResult gradient{
      tree_sum({losses.begin(), losses.end()}), std::sqrt(result.sum_squares.wait_values<double>()[0]), {}};
  if (result.terms) {
    const std::vector<float> terms = result.terms->wait_values<float>();
    for (auto term = terms.begin(); term != terms.end(); term += static_cast<std::ptrdiff_t>(losses.size())) {
      gradient.terms.push_back(tree_sum({term, term + static_cast<std::ptrdiff_t>(losses.size())}));
    }
  }
  return gradient;
}

GradientResult TrainingStep::gradients(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  optimizer_.hold_below(arguments.held_below);
  upload_inputs(objective, batch, arguments);
  backward(objective, arguments.micro_batch_size);
  start_reading();
  return wait();
}

std::vector<double> mean_losses(Model& model, const Objective& objective, const Batch& batch,
                                int64_t micro_batch_size) {
  const std::vector<LossScale> scales = mean_scales(objective.count_targets(batch, model));
  std::vector<std::vector<Variable>> micro_batches;
  for (int64_t begin = 0; begin < batch.size(); begin += micro_batch_size) {
    const Batch rows = batch.rows(begin, std::min(micro_batch_size, batch.size() - begin));
    micro_batches.push_back(objective.losses(model, rows, scales, {}));
  }
  std::vector<double> means;  // read together, when all micro-batches are on their way
  for (size_t term = 0; term < scales.size(); ++term) {
    std::vector<double> values;
    for (const std::vector<Variable>& terms : micro_batches) {
      if (terms[term].defined()) values.push_back(terms[term].value().item());
    }
    means.push_back(tree_sum(values));
  }
  return means;
}

}  // namespace ondol
