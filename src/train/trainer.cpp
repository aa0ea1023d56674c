#include <ondol/train/trainer.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

#include <unistd.h>

#include <ondol/backend/device_use.h>
#include <ondol/base/directory_lock.h>
#include <ondol/base/file.h>
#include <ondol/tensor/allocator.h>

#include "backend/backend.h"
#include "train/best_model.h"
#include "train/checkpoint_writer.h"
#include "train/evaluation.h"
#include "train/model_setup.h"
#include "train/peak_flops.h"
#include "train/ramps.h"
#include "train/rank_grid.h"
#include "train/rank_memory.h"
#include "train/rank_report.h"
#include "train/run_data.h"
#include "train/run_log.h"
#include "train/training_step.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A step that was given to the device and whose result has not been read.
struct StartedStep {
  StepMetrics metrics;  // what is known beforehand
  double begin = 0.0;
  int64_t first_sample = 0, batch_size = 0, length = 0, tokens = 0, share_tokens = 0;
  int64_t micro_batch_samples = 0;
  std::vector<std::string> loss_names;
};

/// A directory that goes away again, for the tokenized text of a dry run.
struct ScratchDirectory {
  ScratchDirectory() : path((fs::temp_directory_path() / concat("ondol-dry-run-", ::getpid())).string()) {}
  ~ScratchDirectory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string path;
};

/// The run directory; one that this run has made goes away again unless the run gets as far as training.
class NewDirectory {
 public:
  explicit NewDirectory(const std::string& path) : path_(path), made_(!fs::exists(path)) { make_directories(path); }
  ~NewDirectory() {
    std::error_code ignored;
    if (made_) fs::remove_all(path_, ignored);
  }
  void keep() { made_ = false; }

 private:
  std::string path_;
  bool made_;
};

}  // namespace

struct Trainer::Impl {
  Impl(TrainConfig train_config, TrainerOptions trainer_options)
      : config(std::move(train_config)), options(std::move(trainer_options)) {
    if (!options.output.empty()) config.output = options.output;
    if (options.observer == nullptr) options.observer = &silent;
  }

  TrainResult run();
  TrainResult run_in(std::optional<NewDirectory>& directory, std::optional<DirectoryLock>& lock);
  std::string choose_checkpoint() const;
  void build(const std::string& checkpoint, const std::string& cache_directory);
  RunInfo describe(const std::string& checkpoint);
  const StageConfig& stage() const { return config.stages[static_cast<size_t>(state.stage)]; }
  bool done() const { return state.stage >= static_cast<int64_t>(config.stages.size()); }
  void skip_finished_stages();
  void change_positions(const StageConfig& wanted);
  void read_data(const std::function<void()>& read);
  void open_stage(size_t number, const std::string& position);
  void check_later_stages();

  Batch next_batch();
  StepArguments step_arguments();
  void start_step();
  std::string not_finite(const StartedStep& from, const GradientResult& result) const;
  StepMetrics finish_step();
  void finish_steps(size_t left);
  void evaluate();
  void resolve_epochs();
  void write_final(const std::string& directory);
  /// The same on all ranks at the same step.
  bool stops() const { return ranks.size() > 1 ? stop_seen : options.stop != nullptr && options.stop->load(); }
  bool works_on_its_own() const { return backend(training.model->device().type).begin_capture != nullptr; }
  void save_checkpoint(bool steps_follow);
  void finish_checkpoint();
  void report_checkpoint(const std::string& directory);
  TrainResult loop();

  TrainConfig config;
  TrainerOptions options;
  const Ranks ranks{options.communicator};
  RankGrid grid{ranks};  // as the configuration has it, from build() on
  TrainObserver silent;
  TrainingModel training;
  std::unique_ptr<RunData> data;
  std::unique_ptr<TrainingStep> step;
  std::unique_ptr<RunLog> log;
  TrainerState state;  // as of the last step that was started; updates and seconds: of the last one that is finished
  BestModel best{config.evaluation, config.output, state};
  std::deque<StartedStep> started;
  RankTimes times{grid};
  double finished_at = 0.0;  // when the last result came
  std::optional<double> peak_flops;
  std::string last_checkpoint;      // that is whole
  int64_t saved_best = 0;           // best step in the checkpoint that was begun last
  bool stop_seen = false;           // with the result of a step: some rank wants to stop
  double checkpoint_seconds = 0.0;  // since the last step that was started
  CheckpointWriter writer{ranks};   // goes first: it reads the model
};

/// The checkpoint that options.resume asks for, "" for none.
std::string Trainer::Impl::choose_checkpoint() const {
  if (options.resume == "never") return "";
  const auto skipped = [this](const std::string& reason) { options.observer->on_warning("passed over: " + reason); };
  if (options.resume == "auto") return find_checkpoint(config.output, skipped);
  if (!fs::is_directory(options.resume)) {
    throw UsageError(concat("cannot resume: no such directory (", options.resume, ")"),
                     "--resume takes auto, never, a checkpoint or a run directory");
  }
  if (fs::exists(options.resume + "/trainer_state.json")) {
    verify_checkpoint(options.resume);
    return options.resume;
  }
  const std::string found = find_checkpoint(options.resume, skipped);
  if (found.empty()) throw UsageError(concat("cannot resume: no checkpoint (", options.resume, ")"));
  return found;
}

void Trainer::Impl::skip_finished_stages() {
  while (!done() && state.stage_step >= stage().steps) {
    ++state.stage;
    state.stage_step = 0;
  }
}

/// What the stage says about the positions of the model; what it leaves out stays as it is.
void Trainer::Impl::change_positions(const StageConfig& wanted) {
  if (!wanted.rope_theta && !wanted.max_positions) return;
  Model& model = *training.model;
  model.change_rotary_positions(wanted.rope_theta.value_or(model.info().rope_theta.value_or(0.0)),
                                wanted.max_positions.value_or(model.info().max_positions));
}

/// The first rank tokenizes the text for all; examples that stay in memory are read by all at the same time.
void Trainer::Impl::read_data(const std::function<void()>& read) {
  if (data->makes_files()) {
    ranks.one_by_one(read);
  } else {
    read();
  }
}

void Trainer::Impl::open_stage(size_t number, const std::string& position) {
  change_positions(config.stages[number]);
  const auto work = options.observer->on_long_work("reading the data");
  read_data([&] { data->open_stage(number, position); });
}

/// All later stages, so that a mistake in one does not wait until its turn comes.
void Trainer::Impl::check_later_stages() {
  const ModelInfo now = training.model->info();
  for (size_t later = static_cast<size_t>(state.stage) + 1; later < config.stages.size(); ++later) {
    change_positions(config.stages[later]);
    data->check_stage(later);
  }
  if (now.rope_theta) training.model->change_rotary_positions(*now.rope_theta, now.max_positions);
}

/// Steps of the stages, and of unfreezing, that are given in epochs: so many that every sample is seen as often. The
/// last batch goes on into the next epoch where it is not full.
void Trainer::Impl::resolve_epochs() {
  const auto steps_of = [&](double epochs, size_t number) {
    const auto samples = static_cast<double>(data->samples_per_epoch(number));
    return std::max(std::ceil(epochs * samples / static_cast<double>(config.stages[number].batch_size)), 1.0);
  };
  for (size_t number = 0; number < config.stages.size(); ++number) {
    const StageConfig& now = config.stages[number];
    if (now.steps != TrainConfig::kUnknownSteps) continue;
    config.set_steps(number, static_cast<int64_t>(steps_of(now.epochs, number)));
  }
  if (config.unfreeze.epochs > 0.0) {
    config.unfreeze.steps = static_cast<int64_t>(
        std::min(steps_of(config.unfreeze.epochs, 0), static_cast<double>(TrainConfig::kUnknownSteps)));
  }
}

void Trainer::Impl::build(const std::string& checkpoint, const std::string& cache_directory) {
  state = TrainerState();
  const std::string fingerprint = model_fingerprint(config);
  if (!checkpoint.empty()) {
    state = read_trainer_state(checkpoint);
    if (!fingerprint.empty() && state.model_fingerprint != fingerprint) {
      throw UsageError(
          concat("cannot resume: the model's configuration is not that of the checkpoint (", checkpoint, ")"),
          "choose another --output, or start over with --resume never");
    }
  }
  state.seed = config.seed;
  if (!fingerprint.empty()) state.model_fingerprint = fingerprint;
  const auto work = options.observer->on_long_work("building model and data");
  grid = options.communicator == nullptr ? RankGrid()  // a dry run too
                                         : RankGrid(options.communicator, static_cast<int>(config.parallel.tensor));
  training = make_training_model(config, options.device, checkpoint, grid);
  data = std::make_unique<RunData>(config, *training.model, cache_directory);
  read_data([&] { resolve_epochs(); });
  if (!checkpoint.empty() && state.config_hash != config.hash()) {
    options.observer->on_warning("the configuration differs from the checkpoint's; its new values apply");
  }
  state.config_hash = config.hash();
  step = std::make_unique<TrainingStep>(*training.model, *training.optimizer,
                                        TrainingStepSettings{.seed = config.seed,
                                                             .max_grad_norm = config.max_grad_norm,
                                                             .label_smoothing = config.label_smoothing,
                                                             .stop_at_non_finite = config.on_non_finite == "stop",
                                                             .updates = state.updates,
                                                             .gradient_checkpointing = config.gradient_checkpointing},
                                        grid, training.sharding, training.values.get());
  peak_flops = config.logging.peak_flops > 0.0 ? std::optional(config.logging.peak_flops)
                                               : measured_peak_flops(training.model->device(), config.dtype);
  // The data of a stage that has just ended are opened as well: the next stage may go on with them.
  const size_t reading = std::min(static_cast<size_t>(state.stage), config.stages.size() - 1);
  open_stage(reading, state.data_position);
  skip_finished_stages();
  if (!done() && static_cast<size_t>(state.stage) != reading) open_stage(static_cast<size_t>(state.stage), "");
  read_data([&] { check_later_stages(); });
  if (state.step > config.total_steps()) {
    options.observer->on_warning(concat("the checkpoint is of step ", state.step, ", the configuration ends at ",
                                        config.total_steps(), ": nothing is left to train"));
  }
}

RunInfo Trainer::Impl::describe(const std::string& checkpoint) {
  RunInfo info;
  info.output = config.output;
  info.resumed_from = checkpoint;
  info.data = data->train().describe();
  info.first_step = state.step + 1;
  info.total_steps = config.total_steps();
  info.parameters = training.model->parameters().count();
  const StageConfig& first = done() ? config.stages.back() : stage();
  info.tokens_per_step = batch_size_at(first, state.stage_step + 1) * first.data.sequence_length;
  info.device = to_string(training.model->device());
  info.dtype = config.dtype;
  return info;
}

Batch Trainer::Impl::next_batch() {
  const int64_t next = state.stage_step + 1;
  Batch samples = cut_rows(data->train().next(batch_size_at(stage(), next)), row_parts_at(stage(), next));
  ObjectiveContext context = data->objective_context(state.step + 1, true);
  context.communicator = ranks.communicator();
  return data->objective().prepare(std::move(samples), context);
}

StepArguments Trainer::Impl::step_arguments() {
  RankReport report = times.report();
  report.stop = options.stop != nullptr && options.stop->load() ? 1.0f : 0.0f;
  report.part_is_written = writer.part_is_written() ? 1.0f : 0.0f;
  const int64_t let_go = config.unfreeze.given() ? state.step / config.unfreeze.steps : 0;
  return {.micro_batch_size = stage().micro_batch_size * row_parts_at(stage(), state.stage_step + 1),
          .step = state.step + 1,
          .learning_rate = learning_rate_at(stage().schedule, stage().learning_rate, state.stage_step + 1),
          .held_below = config.unfreeze.given() ? std::max<int64_t>(0, training.optimizer->groups() - 1 - let_go) : 0,
          .report = report};
}

/// Starts the next step. Devices that work on their own are given it before the one before is done, so that they never
/// wait for the host.
void Trainer::Impl::start_step() {
  StartedStep now;
  now.begin = now_seconds();
  times.begin();
  const Batch batch = next_batch();
  now.metrics.data_seconds = now_seconds() - now.begin;
  now.metrics.checkpoint_seconds = std::exchange(checkpoint_seconds, 0.0);
  const StepArguments arguments = step_arguments();
  const std::vector<int64_t> targets = data->objective().count_targets(batch, *training.model);
  now.metrics.no_targets = std::all_of(targets.begin(), targets.end(), [](int64_t count) { return count == 0; });
  if (!now.metrics.no_targets) step->start(data->objective(), batch, arguments);
  now.share_tokens = step->share_tokens();
  now.micro_batch_samples = stage().micro_batch_size;
  now.loss_names = data->objective().loss_names();
  now.first_sample = batch.first_sample;
  now.batch_size = batch.size();
  now.length = batch.input_ids.size(1);
  now.tokens = batch.count_tokens();
  ++state.step;
  ++state.stage_step;
  state.tokens += now.tokens;
  state.samples += batch.size();
  now.metrics.step = state.step;
  now.metrics.learning_rate = arguments.learning_rate;
  now.metrics.tokens = state.tokens;
  now.metrics.samples = state.samples;
  started.push_back(now);
}

/// Which step it was, and where the first loss that is not finite was computed.
std::string Trainer::Impl::not_finite(const StartedStep& from, const GradientResult& result) const {
  const auto samples = [&](int64_t begin, int64_t count) {
    return concat("samples ", from.first_sample + begin, " to ",
                  from.first_sample + std::min(begin + count, from.batch_size) - 1);
  };
  std::string text = concat("step ", from.metrics.step, ": loss ", result.loss, ", gradient norm ", result.grad_norm,
                            " (", samples(0, from.batch_size), " of the training data");
  const auto first =
      std::find_if(result.losses.begin(), result.losses.end(), [](double x) { return !std::isfinite(x); });
  const int64_t rows = from.micro_batch_samples;
  if (first == result.losses.end()) {
    text += "; the loss of each micro-batch is finite";
    if (!result.not_finite) return text;
    const GradientResult::NotFinite& of = *result.not_finite;
    return text +
           concat(", first gradient that is not: ", samples(of.first * rows, of.count * rows), ", on rank ", of.rank);
  }
  const int64_t micro_batch = first - result.losses.begin();
  text += concat("; first not finite: ", samples(micro_batch * rows, rows));
  if (ranks.size() == 1) return text;
  return text + concat(", on rank ", step->rank_of(micro_batch, static_cast<int64_t>(result.losses.size())));
}

/// Reads the result of the oldest step that was started. The device has left it out by itself if it was not finite, and
/// with it, when the run is to stop then, every later one.
StepMetrics Trainer::Impl::finish_step() {
  const StartedStep from = started.front();
  started.pop_front();
  GradientResult result{std::numeric_limits<double>::quiet_NaN(), 0.0};
  if (!from.metrics.no_targets) result = step->wait();
  StepMetrics metrics = from.metrics;
  metrics.loss = result.loss;
  metrics.grad_norm = result.grad_norm;
  metrics.skipped = !result.finite();
  for (size_t i = 0; i < result.terms.size(); ++i) metrics.losses.emplace_back(from.loss_names[i], result.terms[i]);
  if (metrics.no_targets) {
    options.observer->on_warning(concat("step ", metrics.step, " has nothing to predict and is left out (samples ",
                                        from.first_sample, " to ", from.first_sample + from.batch_size - 1, ")"));
  } else if (metrics.skipped && config.on_non_finite == "stop") {
    throw Error(concat("training stopped at ", not_finite(from, result), "; no weight was changed)"),
                "lower optimizer.learning_rate, or set train.on_non_finite to \"skip\"");
  }
  if (metrics.skipped && !metrics.no_targets) {
    options.observer->on_warning(concat("left out ", not_finite(from, result), ")"));
  }
  stop_seen = stop_seen || result.stop();
  if (result.parts_are_written()) writer.all_are_written();
  metrics.ranks = rank_metrics(result.ranks);
  if (!metrics.skipped) ++state.updates;
  const double now = now_seconds();
  metrics.seconds = now - std::max(from.begin, finished_at);
  finished_at = now;
  state.seconds += metrics.seconds;
  times.end(from.share_tokens, metrics.seconds);
  metrics.tokens_per_second = static_cast<double>(from.tokens) / metrics.seconds;
  if (peak_flops) {
    metrics.mfu =
        training.model->info().training_flops_per_token(from.length) * metrics.tokens_per_second / *peak_flops;
  }
  return metrics;
}

/// Reads results and reports them, until `left` steps are under way.
void Trainer::Impl::finish_steps(size_t left) {
  while (started.size() > left) {
    const StepMetrics metrics = finish_step();
    const bool logged = metrics.step % config.logging.every == 0 || metrics.step == config.total_steps();
    if (logged && ranks.first()) log->step(metrics);
    options.observer->on_step(metrics);
  }
}

/// What the validation data say, into the log; a model that is the best one so far is kept.
void Trainer::Impl::evaluate() {
  const auto work = options.observer->on_long_work("evaluating");
  const int64_t batch_size = stage().batch_size;
  Evaluation evaluation = ondol::evaluate(*data, *training.model,
                                          {.samples = config.evaluation.batches * batch_size,
                                           .batch_size = batch_size,
                                           .micro_batch_size = stage().micro_batch_size},
                                          grid.data(), training.values.get());
  evaluation.metrics.step = state.step;
  options.observer->on_evaluation(evaluation.metrics);
  const bool better = best.offer(evaluation.metrics);
  if (better && config.evaluation.keep_best)
    best.keep(*training.model, data->tokenizer(), evaluation, ranks, training.held());
  if (!ranks.first()) return;
  log->evaluation(evaluation.metrics);
  if (better && config.evaluation.keep_best && config.checkpoint.every == 0) {
    best.forget_others();  // no checkpoint will ever know of an older one
  }
  const bool last = state.step == config.total_steps() || best.exhausted();
  if (last && !config.evaluation.keep_best) write_evaluation(config.output, evaluation);
}

/// All ranks. Steps that follow go on while the files are made, unless checkpoint.background is off.
void Trainer::Impl::save_checkpoint(bool steps_follow) {
  const auto work = options.observer->on_long_work("writing a checkpoint");
  const double begin = now_seconds();
  report_checkpoint(writer.finish());
  if (ranks.first()) log->sync();
  state.data_position = data->train().state();
  saved_best = state.best_step;
  const CheckpointParts parts{.model = *training.model,
                              .optimizer = *training.optimizer,
                              .tokenizer = data->tokenizer(),
                              .state = state,
                              .held = training.held()};
  if (config.checkpoint.background && steps_follow) {
    writer.start(config.output, parts, config.checkpoint.keep);
  } else {
    report_checkpoint(writer.write(config.output, parts, config.checkpoint.keep));
  }
  checkpoint_seconds += now_seconds() - begin;
}

/// All ranks.
void Trainer::Impl::finish_checkpoint() {
  const auto work = options.observer->on_long_work("writing a checkpoint");
  report_checkpoint(writer.finish());
}

/// "" is none.
void Trainer::Impl::report_checkpoint(const std::string& directory) {
  if (directory.empty()) return;
  last_checkpoint = directory;
  if (config.evaluation.keep_best && saved_best == state.best_step) best.forget_others();
  options.observer->on_checkpoint(directory);
}

/// Also when no step was left: the process may have died after the last checkpoint, and the directory be that of a
/// shorter run.
void Trainer::Impl::write_final(const std::string& directory) {
  const std::string chosen = config.evaluation.keep_best ? best.directory() : "";
  if (chosen.empty()) {
    const AveragedWeights averaged(training.model->parameters(), *training.optimizer);
    write_model_directory(directory, *training.model, data->tokenizer(), ranks.communicator(), training.held());
    return;
  }
  if (!ranks.first()) return;
  copy_model_directory(chosen, directory);
  best.forget_others();
  for (const char* name : {"predictions.jsonl", "report.json"}) {
    if (!fs::exists(concat(chosen, "/", name))) continue;
    const MappedFile file(concat(chosen, "/", name));
    write_file_atomic(concat(config.output, "/", name), {reinterpret_cast<const char*>(file.data()), file.size()});
  }
}

TrainResult Trainer::Impl::loop() {
  const int64_t total = config.total_steps();
  const auto every = [&](int64_t interval) {
    return interval > 0 && (state.step % interval == 0 || state.step == total);
  };
  const bool runs_ahead = works_on_its_own();
  while (!done() && !best.exhausted()) {
    start_step();
    report_checkpoint(writer.poll());
    const bool evaluates = data->validation() != nullptr && every(config.evaluation.every);
    const bool saves = every(config.checkpoint.every);
    finish_steps(runs_ahead && !evaluates && !saves && state.step < total ? 1 : 0);
    if (evaluates) evaluate();
    const bool exhausted = evaluates && best.exhausted();
    const bool stop = stops() && state.step < total && !exhausted;
    if (saves || stop || (exhausted && config.checkpoint.every > 0)) {
      finish_steps(0);
      save_checkpoint(!stop && !exhausted && state.step < total);
      if (stop) return {state.step, false, ranks.from_first([&] { return last_checkpoint; })};
    }
    const int64_t stage_before = state.stage;
    skip_finished_stages();
    if (!done() && state.stage != stage_before) open_stage(static_cast<size_t>(state.stage), "");
  }
  finish_checkpoint();
  const std::string final_directory = config.output + "/final";
  {
    const auto work = options.observer->on_long_work("writing the model");
    write_final(final_directory);
  }
  if (ranks.first()) log->sync();
  ranks.meet();
  return {state.step, true, final_directory};
}

Trainer::Trainer(TrainConfig config, TrainerOptions options)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(options))) {}
Trainer::~Trainer() = default;

/// When an error ends the run, the other ranks hear of it first; then the checkpoint under way is finished as far as
/// this rank can, within the lock.
TrainResult Trainer::Impl::run() {
  std::optional<NewDirectory> directory;
  std::optional<DirectoryLock> lock;
  try {
    return run_in(directory, lock);
  } catch (const std::exception& error) {
    ranks.fail(error.what());
    writer.abandon();
    throw;
  }
}

void check_process_count(const TrainConfig& config, int processes) {
  const int64_t tensor = config.parallel.tensor, sharing = config.parallel.data;
  if (processes % tensor == 0 && (sharing == 1 || sharing * tensor == processes)) return;
  throw UsageError(
      concat(tensor > 1 ? concat("parallel.tensor is ", tensor) : "", tensor > 1 && sharing > 1 ? " and " : "",
             sharing > 1 ? concat("parallel.data is ", sharing) : "", ", the run has ", processes,
             processes == 1 ? " process" : " processes"),
      concat("start it with: ondol launch --processes ", sharing * tensor, " train ..."));
}

/// What only one process may do in the run directory, the first rank does.
TrainResult Trainer::Impl::run_in(std::optional<NewDirectory>& directory, std::optional<DirectoryLock>& lock) {
  check_process_count(config, ranks.size());
  const std::string checkpoint = ranks.from_first([&] {
    directory.emplace(config.output);
    lock.emplace(config.output);
    clean_run_directory(config.output, /*all=*/false);
    return choose_checkpoint();
  });
  ranks.check_same("the configuration", config.hash());
  ranks.check_same("parallel.tensor", std::to_string(config.parallel.tensor));
  build(checkpoint, config.output + "/data");
  ranks.check_same("the training data", concat(data->train().describe(), data->train().state()));
  if (ranks.first()) {
    // Only now: what cannot be built must not cost the run that is there.
    if (options.resume == "never") clean_run_directory(config.output, /*all=*/true);
    write_file_atomic(config.output + "/config.json", config.resolved_json());
    log = std::make_unique<RunLog>(config.output, state.step, config.logging.tensorboard);
    directory->keep();
  }
  options.observer->on_start(describe(checkpoint));
  const std::string warning = claim_device(training.model->device());
  if (!warning.empty()) options.observer->on_warning(warning);
  return loop();
}

TrainResult Trainer::run() { return impl_->run(); }

DryRunReport Trainer::dry_run() {
  Impl& run = *impl_;
  const ScratchDirectory scratch;
  run.build("", scratch.path);
  Model& model = *run.training.model;
  DryRunReport report;
  report.run = run.describe("");
  reset_peak_memory(model.device());
  const double start = now_seconds();
  const Batch batch = run.next_batch();
  report.run.tokens_per_step = batch.input_ids.numel();
  const GradientResult result = run.step->gradients(run.data->objective(), batch, run.step_arguments());
  report.seconds = now_seconds() - start;
  report.loss = result.loss;
  report.grad_norm = result.grad_norm;
  const auto bytes = [](const Tensor& tensor) {
    return static_cast<uint64_t>(tensor.numel()) * dtype_size(tensor.dtype());
  };
  report.parameter_bytes = bytes(model.parameters().flat_values());
  if (model.dtype() != DType::f32) report.parameter_bytes += bytes(run.training.optimizer->master());
  for (const auto& [name, tensor] : run.training.optimizer->state()) report.optimizer_bytes += bytes(tensor);
  report.rank =
      rank_memory(run.config, model.parameters(), *run.training.optimizer, static_cast<int>(run.config.parallel.data));
  if (run.config.parallel.tensor > 1) shrink_to_part(report.rank, run.config);
  report.peak_memory_bytes = memory_statistics(model.device()).peak;
  return report;
}

Model& Trainer::model() {
  ONDOL_CHECK(impl_->training.model != nullptr, "the trainer has no model before run()");
  return *impl_->training.model;
}

}  // namespace ondol
