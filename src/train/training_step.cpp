#include "train/training_step.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <ondol/autograd/low_rank.h>

#include "tensor/give_back.h"
#include "train/tensor_sums.h"

namespace ondol {

namespace {

/// Streams of random numbers that one micro-batch may use; layers number their own below it.
constexpr uint32_t kStreamsPerMicroBatch = 1u << 16;
constexpr uint32_t kLowRankStreams = 1u << 15;  // of those, the first that adapters use

}  // namespace

bool GradientResult::finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }

bool GradientResult::stop() const {
  return std::any_of(ranks.begin(), ranks.end(), [](const RankReport& rank) { return rank.stop != 0.0f; });
}

bool GradientResult::parts_are_written() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const RankReport& rank) { return rank.part_is_written != 0.0f; });
}

TrainingStep::TrainingStep(Model& model, Optimizer& optimizer, const TrainingStepSettings& settings,
                           const RankGrid& grid, std::shared_ptr<const Sharding> sharding, ValueShards* values)
    : model_(model),
      optimizer_(optimizer),
      settings_(settings),
      grid_(grid),
      ranks_(grid.data()),
      sharding_(std::move(sharding)),
      sum_(model.parameters(), ranks_, sharding_),
      hooks_(sum_, values),
      batch_(model.device()),
      step_(Tensor::zeros({1}, DType::i64, model.device())),
      squares_(
          Tensor::zeros({ops::squares_blocks(model.parameters().trainable_elements())}, DType::f64, model.device())),
      sum_squares_(Tensor::zeros({1}, DType::f64, model.device())),
      graph_(model.device()) {
  ParameterStore& store = model.parameters();
  if (sum_.in_rounds()) {
    store.use_gradient_buffer(zeros_without_memory({store.trainable_elements()}, DType::f32, model.device()));
  } else {
    store.enable_gradients();
  }
  // Several groups count their updates by themselves, and checkpoints keep the counts.
  if (optimizer_.groups() == 1) ops::set_optimizer_scalars(optimizer_.scalars(), 0.0f, 1.0f, settings_.updates);
}

MicroBatchShare TrainingStep::share_of(int64_t micro_batches, int rank) const {
  return sum_.in_rounds() ? dealt_micro_batches(micro_batches, rank, ranks_.size())
                          : share_of_micro_batches(micro_batches, rank, ranks_.size());
}

void TrainingStep::upload_inputs(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  const int64_t before = micro_batches_;
  micro_batches_ = (batch.size() + arguments.micro_batch_size - 1) / arguments.micro_batch_size;
  share_ = share_of(micro_batches_, ranks_.rank());
  const auto named = static_cast<int64_t>(objective.loss_names().size());
  const Shape wanted{grid_.all().size(), (1 + named) * share_.size + own_flags(share_.size) + kRankReportFloats};
  if (!reports_.defined() || reports_.shape() != wanted) {
    reports_ = Tensor::zeros(wanted, DType::f32, model_.device());
  } else if (micro_batches_ != before) {
    reports_.zero();  // some places are not filled any more
  }
  sum_.set_contributors(share_.contributors);
  if (const std::string order = objective.settings(); order != order_of_) {
    sum_.forget_order();
    order_of_ = order;
  }
  share_tokens_ = 0;
  std::vector<Batch> own;
  for (int64_t i = 0; i < share_.count; ++i) {
    const int64_t begin = share_.index(i) * arguments.micro_batch_size;
    own.push_back(batch.rows(begin, std::min(arguments.micro_batch_size, batch.size() - begin)));
    share_tokens_ += own.back().count_tokens();
  }
  // A layer's values take all ranks: those without a micro-batch compute one along, for nothing.
  while (hooks_.values != nullptr && static_cast<int64_t>(own.size()) < share_.size) {
    own.push_back(batch.rows(0, std::min(arguments.micro_batch_size, batch.size())));
  }
  batch_.load(own);
  const auto report = std::bit_cast<std::array<float, kRankReportFloats>>(arguments.report);
  upload(own_report().narrow(0, wanted[1] - kRankReportFloats, kRankReportFloats),
         Tensor::from_vector(std::vector<float>(report.begin(), report.end()), {kRankReportFloats}));
  upload(step_, Tensor::from_vector(std::vector<int64_t>{arguments.step}, {1}));
  std::vector<float> scales;
  for (const LossScale& scale : mean_scales(objective.count_targets(batch, model_))) scales.push_back(scale.value);
  const auto terms = static_cast<int64_t>(scales.size());
  if (!loss_scales_.defined() || loss_scales_.numel() != terms) {
    loss_scales_ = Tensor::zeros({terms}, DType::f32, model_.device());
  }
  upload(loss_scales_, Tensor::from_vector(scales, {terms}));
}

/// Forward and backward of this rank's share, which leave their losses in reports_ and their gradients in sum_.
void TrainingStep::run_micro_batches(const Objective& objective) {
  const ValueShards::Use use(hooks_.values);
  const auto named = static_cast<int64_t>(objective.loss_names().size());
  std::vector<LossScale> scales;
  for (int64_t i = 0; i < loss_scales_.numel(); ++i) {
    scales.emplace_back(1.0, loss_scales_.narrow(0, i, 1)).label_smoothing =
        static_cast<float>(settings_.label_smoothing);
  }
  for (int64_t i = 0; i < (sum_.in_rounds() ? share_.size : share_.count); ++i) {
    if (sum_.in_rounds()) sum_.set_contributors(contributors_in_round(micro_batches_, i, ranks_.size()));
    const bool counts = i < share_.count;
    if (!counts && hooks_.values == nullptr) {
      sum_.pass();
      continue;
    }
    ForwardContext context;
    context.training = settings_.dropout;
    context.recompute_layers = settings_.gradient_checkpointing;
    context.rng = {settings_.seed, static_cast<uint32_t>(share_.index(i)) * kStreamsPerMicroBatch, step_};
    sum_.begin(sum_.in_rounds() || i + 1 == share_.count);
    if (ranks_.size() > 1) context.layers = &hooks_;
    std::optional<LowRankDropout> low_rank_dropout;
    RngKey low_rank_key = context.rng;
    low_rank_key.stream += kLowRankStreams;
    if (context.training) low_rank_dropout.emplace(low_rank_key);
    Tape tape;
    const std::vector<Variable> terms =
        objective.losses(model_, batch_.micro_batches()[static_cast<size_t>(i)], scales, context);
    const Variable loss = total_loss(terms);
    for (int64_t t = 0; counts && t < named; ++t) {
      const Variable& term = terms.at(static_cast<size_t>(t));
      if (term.defined()) {
        term_of(t, i).copy_from(term.value().reshape({1}));
      } else {
        term_of(t, i).zero();
      }
    }
    if (counts) loss_of(i).copy_from(loss.value().reshape({1}));
    tape.backward(loss);
    sum_.end();
    if (counts && sum_.in_rounds()) flag_of(i).copy_from(sum_.own_flag());
  }
}

/// From the uploaded inputs to reports_, the sum of all gradients and the sum of their squares.
void TrainingStep::backward(const Objective& objective) {
  run_micro_batches(objective);
  const auto named = static_cast<int64_t>(objective.loss_names().size());
  sum_.finish();
  if (ranks_.size() > 1 && !sum_.in_rounds()) flag_of(0).copy_from(sum_.own_flag());
  add_up_shared_gradients(model_, sum_.total(), sharding_.get());
  add_up_in_group(model_, own_report().narrow(0, 0, (1 + named) * share_.size));
  if (Communicator* all = grid_.all().communicator()) all->all_gather(reports_, own_report()).wait();
  add_squares();
}

/// With sharding every rank has the squares of its blocks, the first one those of what all keep. A sum with zeros is
/// exact, so that sum_squares_ has the same bytes however many ranks there are.
void TrainingStep::add_squares() {
  const Tensor& total = sum_.total();
  if (sharding_ == nullptr) {
    ops::block_squares(squares_, total);
  } else {
    squares_.zero();
    for (const ShardPart& part : sharding_->layout().parts()) {
      if (part.replicated && !ranks_.first()) continue;
      const Tensor own = sum_.in_rounds() ? part.in_shard(total) : part.in_flat(total);
      static_assert(ops::squares_blocks(ParameterStore::kBlock) == 1);
      ops::block_squares(squares_.narrow(0, part.begin / ParameterStore::kBlock, ops::squares_blocks(part.length)),
                         own);
    }
    ranks_.communicator()->all_reduce(squares_).wait();
  }
  keep_own_squares(model_, squares_);
  ops::sum_all(sum_squares_, squares_);
  add_up_in_group(model_, sum_squares_);
}

void TrainingStep::start_reading() {
  started_.push_back({PendingRead(reports_), PendingRead(sum_squares_), micro_batches_, share_.size});
}

void TrainingStep::start(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  upload_inputs(objective, batch, arguments);
  optimizer_.hold_below(arguments.held_below);
  const std::vector<ops::OptimizerScalarsTensor> scalars = optimizer_.active_scalars();
  for (const ops::OptimizerScalarsTensor& group : scalars) {
    ops::upload_learning_rate(group, static_cast<float>(arguments.learning_rate));
  }
  const std::string shape = concat(order_of_, " ", micro_batches_, " ", arguments.micro_batch_size, batch_.layout(),
                                   " ", arguments.held_below, " ", model_.info().rope_theta.value_or(0.0));
  const Tensor losses = reports_.reshape({reports_.numel()});  // flags are not finite only where the total is not
  graph_.run(shape, [&] {
    backward(objective);
    for (const ops::OptimizerScalarsTensor& group : scalars) {
      ops::clip_gradient(group, losses, sum_squares_, settings_.max_grad_norm, settings_.stop_at_non_finite);
    }
    optimizer_.apply(sum_.total());
  });
  start_reading();
}

GradientResult TrainingStep::wait() {
  ONDOL_CHECK(!started_.empty(), "no training step was started");
  Result result = std::move(started_.front());
  started_.pop_front();
  const std::vector<float> reports = result.reports.wait_values<float>();
  const auto length = reports.size() / static_cast<size_t>(grid_.all().size());
  const auto share = static_cast<size_t>(result.share_size);
  const auto gradients = static_cast<size_t>(own_flags(result.share_size));
  const size_t of_losses = length - kRankReportFloats - gradients;
  // Loss and terms, each by micro-batch.
  std::vector<std::vector<double>> values(of_losses / share,
                                          std::vector<double>(static_cast<size_t>(result.micro_batches)));
  GradientResult gradient;
  for (int rank = 0; rank < grid_.all().size(); ++rank) {
    const float* report = reports.data() + static_cast<size_t>(rank) * length;
    const MicroBatchShare computed = share_of(result.micro_batches, rank / grid_.tensor());
    for (size_t kind = 0; kind < values.size(); ++kind) {  // the ranks of a tensor group tell the same
      for (int64_t i = 0; i < computed.count; ++i) {
        values[kind][static_cast<size_t>(computed.index(i))] = report[kind * share + static_cast<size_t>(i)];
      }
    }
    for (size_t i = 0; i < gradients; ++i) {
      if (std::isfinite(report[of_losses + i])) continue;
      const int64_t first = computed.index(static_cast<int64_t>(i));
      if (gradient.not_finite && gradient.not_finite->first <= first) continue;
      gradient.not_finite = {rank, first, sum_.in_rounds() ? 1 : computed.count};
    }
    std::array<float, kRankReportFloats> told;
    std::copy_n(report + of_losses + gradients, told.size(), told.begin());
    gradient.ranks.push_back(std::bit_cast<RankReport>(told));
  }
  gradient.loss = tree_sum(values[0]);
  gradient.losses = values[0];
  gradient.grad_norm = std::sqrt(result.sum_squares.wait_values<double>()[0]);
  for (size_t term = 1; term < values.size(); ++term) gradient.terms.push_back(tree_sum(values[term]));
  return gradient;
}

int TrainingStep::rank_of(int64_t micro_batch, int64_t micro_batches) const {
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    const MicroBatchShare share = share_of(micro_batches, rank);
    for (int64_t i = 0; i < share.count; ++i) {
      if (share.index(i) == micro_batch) return rank * grid_.tensor();
    }
  }
  throw_error("no rank computes micro-batch ", micro_batch, " of ", micro_batches);
}

GradientResult TrainingStep::gradients(const Objective& objective, const Batch& batch, const StepArguments& arguments) {
  optimizer_.hold_below(arguments.held_below);
  upload_inputs(objective, batch, arguments);
  backward(objective);
  start_reading();
  return wait();
}

std::vector<double> mean_losses(Model& model, const Objective& objective, const Batch& batch, int64_t micro_batch_size,
                                const Ranks& ranks, ValueShards* shards) {
  const std::vector<LossScale> scales = mean_scales(objective.count_targets(batch, model));
  const int64_t micro_batches = (batch.size() + micro_batch_size - 1) / micro_batch_size;
  const MicroBatchShare share = share_of_micro_batches(micro_batches, ranks.rank(), ranks.size());
  std::vector<std::vector<Variable>> computed;
  ForwardContext context;
  context.layers = shards;
  for (int64_t i = 0; i < (shards != nullptr ? share.size : share.count); ++i) {
    const bool counts = i < share.count;  // else it is for the other ranks, which need this one's values
    const int64_t begin = counts ? share.index(i) * micro_batch_size : 0;
    const Batch rows = batch.rows(begin, std::min(micro_batch_size, batch.size() - begin));
    std::vector<Variable> terms = objective.losses(model, rows, scales, context);
    if (counts) computed.push_back(std::move(terms));
  }
  // Read when all are on their way. A term that a micro-batch does not have takes no part in the sum.
  const size_t terms = scales.size(), places = static_cast<size_t>(share.size);
  struct Value {
    double loss = 0.0, defined = 0.0;
  };
  std::vector<Value> own(places * terms);
  for (size_t i = 0; i < computed.size(); ++i) {
    for (size_t term = 0; term < terms; ++term) {
      if (computed[i][term].defined()) own[i * terms + term] = {computed[i][term].value().item(), 1.0};
    }
  }
  std::vector<double> losses;
  for (const Value& value : own) losses.push_back(value.loss);
  add_up_in_group(model, losses);
  for (size_t i = 0; i < own.size(); ++i) own[i].loss = losses[i];
  const std::vector<Value> all = ranks.gather(own);  // in the order of the micro-batches
  std::vector<double> means;
  for (size_t term = 0; term < terms; ++term) {
    std::vector<double> values;
    for (size_t i = term; i < all.size(); i += terms) {
      if (all[i].defined != 0.0) values.push_back(all[i].loss);
    }
    means.push_back(tree_sum(values));
  }
  return means;
}

}  // namespace ondol
