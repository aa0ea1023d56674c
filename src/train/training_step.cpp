#include "train/training_step.h"

#include <algorithm>
#include <cmath>

namespace ondol {

namespace {

/// Streams of random numbers that one micro-batch may use; layers number their own below it.
constexpr uint32_t kStreamsPerMicroBatch = 1u << 16;

/// Read back together, when all micro-batches are on their way.
double total_of(const std::vector<Tensor>& losses) {
  std::vector<double> values;
  for (const Tensor& loss : losses) values.push_back(loss.item());
  return tree_sum(values);
}

double scale_of(const Objective& objective, const Batch& batch) {
  return 1.0 / static_cast<double>(std::max<int64_t>(objective.count_targets(batch), 1));
}

}  // namespace

bool GradientResult::finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }

TrainingStep::TrainingStep(Model& model, uint64_t seed)
    : model_(model), sum_(model.parameters()), seed_(seed), step_(Tensor::zeros({1}, DType::i64, model.device())) {
  model.parameters().enable_gradients();
}

GradientResult TrainingStep::gradients(const Objective& objective, const Batch& batch, int64_t micro_batch_size,
                                       int64_t step) {
  step_.fill(static_cast<double>(step));
  const double scale = scale_of(objective, batch);
  std::vector<Tensor> losses;
  for (int64_t begin = 0; begin < batch.size(); begin += micro_batch_size) {
    ForwardContext context;
    context.training = true;
    context.rng = {seed_, static_cast<uint32_t>(losses.size()) * kStreamsPerMicroBatch, step_};
    sum_.begin();
    Tape tape;
    const Variable loss =
        objective.loss(model_, batch.rows(begin, std::min(micro_batch_size, batch.size() - begin)), scale, context);
    losses.push_back(loss.value());
    tape.backward(loss);
    sum_.end();
  }
  sum_.finish();
  return {total_of(losses), gradient_norm(model_.parameters())};
}

double TrainingStep::evaluate(const Objective& objective, const Batch& batch, int64_t micro_batch_size) {
  const double scale = scale_of(objective, batch);
  std::vector<Tensor> losses;
  for (int64_t begin = 0; begin < batch.size(); begin += micro_batch_size) {
    const Batch rows = batch.rows(begin, std::min(micro_batch_size, batch.size() - begin));
    losses.push_back(objective.loss(model_, rows, scale, {}).value());
  }
  return total_of(losses);
}

}  // namespace ondol
