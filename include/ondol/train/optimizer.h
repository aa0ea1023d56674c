// Optimizers over the flat buffers of a ParameterStore.
//
//   auto optimizer = make_optimizer({.type = "adamw", .weight_decay = 0.1}, model->parameters(), master);
//   optimizer->step({.learning_rate = 3e-4, .gradient_scale = 1.0, .update = 1});   // uses store.flat_gradients()
//
// Only what is trained (ParameterStore::set_trainable) is updated and has state. f32 models: the model's values are the
// master weights. bf16 models: `master` holds them in f32 and every update writes the rounded copy into the model in
// the same pass. Where a run shares its state out (Sharding), a rank has state and master weights of what it keeps
// alone, updates that, and all ranks have all values again afterwards. Formulas: torch.optim.AdamW (Loshchilov & Hutter
// 2019), torch.optim.SGD, Lion (Chen et al. 2023), LAMB (You et al. 2020), transformers.Adafactor (Shazeer & Stern
// 2018).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ondol/distributed/communicator.h>
#include <ondol/io/safetensors.h>
#include <ondol/io/tensor_slices.h>
#include <ondol/nn/parameter.h>
#include <ondol/ops/optimizer.h>

namespace ondol {

class Sharding;  // train/sharding.h

struct OptimizerConfig {
  std::string type = "adamw";  // adamw, sgd, lion, lamb, adafactor
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  std::string decay = "matrices";                 // matrices (two or more dimensions, embeddings included), all
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // adamw, lamb; the betas also lion
  double momentum = 0.0;                          // sgd
  bool nesterov = false;                          // sgd
  struct Adafactor {
    double eps1 = 1e-30, eps2 = 1e-3, clip_threshold = 1.0, decay_rate = -0.8;
    double beta1 = 0.0;  // 0: no first moment
    bool scale_parameter = true, relative_step = false, warmup_init = false;
  } adafactor;
  double layer_decay = 1.0;  // of the rate, for each layer down from the head
  struct Group {
    std::string match;  // a pattern of names; later groups rule over earlier ones
    std::optional<double> learning_rate;
    std::optional<double> weight_decay;
  };
  std::vector<Group> groups;
  double ema_decay = 0.0;  // of the average of the weights; 0: none is kept
};

/// One tensor (rows, cols) in the flat buffers, and what is done with it. A vector has one row.
struct ParameterSpan {
  int64_t begin = 0, rows = 1, cols = 0;
  bool matrix = false;
  float rate_scale = 1.0f;  // times the learning rate
  float weight_decay = 0.0f;
  int64_t group = 0;  // that is let go together in gradual unfreezing, the lowest one is 0
};
/// Of a parameter as a whole. Throws UsageError on an unknown config.decay.
ParameterSpan make_span(const OptimizerConfig& config, const ParameterStore::Entry& entry);

struct OptimizerStep {
  double learning_rate = 0.0;
  double gradient_scale = 1.0;  // multiplies every gradient: the clipping factor
  int64_t update = 1;           // counts the updates from 1, for the bias correction
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update of all parameters from the store's gradients, and of their average.
  void step(const OptimizerStep& step);
  /// The same from other gradients, flat or a shard, with what scalars() hold when the work is done; does not wait for
  /// the device.
  void apply(const Tensor& gradients);
  const ops::OptimizerScalarsTensor& scalars() const { return scalars_.back(); }

  /// Gradual unfreezing (Howard & Ruder 2018): from now on the groups below `group` take no gradient and are left as
  /// they are. What is let go later begins as at the first update of a run: each group counts its own updates, so that
  /// bias correction and other functions of that count begin with 1.
  void hold_below(int64_t group);
  /// Groups of the spans: 1 where nothing is ever held.
  int64_t groups() const { return static_cast<int64_t>(scalars_.size()); }
  /// Of the groups that are not held; scalars() is the last of them.
  std::vector<ops::OptimizerScalarsTensor> active_scalars() const {
    return {scalars_.begin() + static_cast<std::ptrdiff_t>(held_), scalars_.end()};
  }

  /// The flat tensors that a checkpoint keeps beside the model, in f32: exp_avg, exp_avg_sq, momentum_buffer, row,
  /// column, average; and the scalars of every group where there are several.
  NamedTensors state() const;
  /// What this process has of the tensors that a checkpoint keeps: of state(), and of the master weights ("master").
  std::vector<TensorSlices> state_slices() const;
  TensorSlices master_slices() const { return slices("master", master_); }

  /// f32, of what is trained: the store's own values in f32 runs.
  const Tensor& master() const { return master_; }
  /// The exponential moving average of the master weights, which begins with the first of them: f32; undefined without
  /// ema_decay.
  const Tensor& average() const { return average_; }
  /// Writes master weights or their average, rounded, into the model. Collective where state is shared out.
  void publish(const Tensor& weights) const;
  void publish() const { publish(master_); }
  /// Null where this process keeps all.
  const std::shared_ptr<const Sharding>& sharding() const { return sharding_; }

 protected:
  /// Elements [begin, begin + length) of the flat buffers, which a shard has at `offset`; updated alike.
  struct Segment {
    int64_t begin = 0, length = 0, offset = 0;
    float rate_scale = 1.0f, weight_decay = 0.0f;
    int64_t group = 0;
    size_t range = 0;  // of the ShardLayout
  };

  Optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master,
            const std::vector<ParameterSpan>& spans, std::shared_ptr<const Sharding> sharding);

  /// Starts the kernels of one update of the groups that are not held, each with its scalars.
  virtual void update(const Tensor& gradients) = 0;
  /// What the update keeps between steps.
  virtual NamedTensors buffers() const = 0;

  /// What this rank updates, neighbours with the same settings in one; rising.
  std::vector<Segment> segments(const std::vector<ParameterSpan>& spans) const;
  /// The segment's part of a tensor that is flat or a shard: its size tells. Both are the same where nothing is shared
  /// out.
  Tensor part(const Tensor& tensor, const Segment& segment) const;
  /// All of a range has been updated: the other ranks may have it.
  void updated(size_t range);
  /// f32, of the size of what this rank keeps.
  Tensor zeros() const;

  ParameterStore& store_;
  const std::shared_ptr<const Sharding> sharding_;  // null: this process keeps all
  Tensor master_;
  Tensor low_precision_;  // the store's values in bf16 runs
  bool is_held(int64_t group) const { return group < held_; }
  const ops::OptimizerScalarsTensor& scalars_of(int64_t group) const { return scalars_[static_cast<size_t>(group)]; }

 private:
  TensorSlices slices(const std::string& name, const Tensor& tensor) const;

  std::vector<Segment> whole_;                         // what this rank keeps, whatever the settings
  std::vector<CommEvent> under_way_;                   // values for the other ranks
  std::vector<ops::OptimizerScalarsTensor> scalars_;   // of each group
  std::vector<std::pair<Variable, int64_t>> members_;  // parameters and their groups, where there are several
  int64_t held_ = 0;                                   // groups below this one are
  double ema_decay_;
  Tensor average_;
};

/// While it lives the model's values are the optimizer's average (rounded in bf16 runs); without an average it does
/// nothing. Its begin is collective where state is shared out. Where values are, too, those that this rank keeps
/// change.
class AveragedWeights {
 public:
  AveragedWeights(ParameterStore& store, const Optimizer& optimizer);
  ~AveragedWeights();
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  bool shares_values() const;

  const ParameterStore& store_;
  Tensor values_;
  std::shared_ptr<const Sharding> sharding_;
  Tensor saved_;  // what the model held before; undefined without an average
};

/// `master` is f32 with the store's trainable_elements(), or a shard of them; undefined: the store's own values (f32)
/// or a copy (bf16). `spans`: the trained tensors in the order of the buffers; empty: make_span of every parameter.
/// Throws UsageError on an unknown type and on one that needs whole tensors where state is shared out.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master = {},
                                          std::vector<ParameterSpan> spans = {},
                                          std::shared_ptr<const Sharding> sharding = nullptr);

}  // namespace ondol
