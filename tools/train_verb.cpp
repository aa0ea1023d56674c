// ondol train CONFIG.json: trains a model.
#include <atomic>
#include <csignal>
#include <memory>

#include <nlohmann/json.hpp>

#include <ondol/train/trainer.h>

#include "option_checks.h"
#include "output.h"
#include "own_rank.h"
#include "train_progress.h"
#include "verbs.h"

namespace {

using ondol::concat;

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::string output;
  std::string resume = "auto";
  bool dry_run = false;
  bool dump_config = false;
};

std::atomic<bool> stop_requested{false};

extern "C" void request_stop(int) { stop_requested = true; }

/// The first SIGINT or SIGTERM ends the run at the next step; a second one ends the process at once.
void install_signal_handlers() {
  static_assert(std::atomic<bool>::is_always_lock_free);
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

ondol::TrainConfig load_config(const Options& options, const GlobalOptions& global) {
  ondol::TrainConfig config = ondol::TrainConfig::from_file(options.config, options.overrides);
  if (!options.output.empty()) config.output = options.output;
  if (global.dtype()) config.dtype = *global.dtype();
  return config;
}

void report_dry_run(const ondol::DryRunReport& report, bool json) {
  const auto& run = report.run;
  const auto& rank = report.rank;
  if (json) {
    const nlohmann::ordered_json out = {{"parameters", run.parameters},
                                        {"steps", run.total_steps},
                                        {"tokens_per_step", run.tokens_per_step},
                                        {"device", run.device},
                                        {"dtype", ondol::dtype_name(run.dtype)},
                                        {"loss", report.loss},
                                        {"grad_norm", report.grad_norm},
                                        {"step_seconds", report.seconds},
                                        {"parameter_bytes", report.parameter_bytes},
                                        {"optimizer_bytes", report.optimizer_bytes},
                                        {"peak_memory_bytes", report.peak_memory_bytes},
                                        {"rank",
                                         {{"processes", rank.ranks},
                                          {"zero_stage", rank.zero_stage},
                                          {"parameter_bytes", rank.parameter_bytes},
                                          {"optimizer_bytes", rank.optimizer_bytes},
                                          {"gradient_bytes", rank.gradient_bytes}}}};
    write_output(out.dump() + "\n");
    return;
  }
  const auto bytes = [](uint64_t count) { return short_bytes(static_cast<double>(count)); };
  write_output(concat("output       ", run.output, " (nothing written)\n", "model        ", run.parameters,
                      " parameters, ", ondol::dtype_name(run.dtype), " on ", run.device, "\n", run.data,
                      "steps        ", run.total_steps, ", ", run.tokens_per_step, " tokens each, ",
                      short_count(static_cast<double>(run.total_steps) * static_cast<double>(run.tokens_per_step)),
                      " in all\n", "first batch  loss ", report.loss, ", gradient norm ", report.grad_norm, ", ",
                      report.seconds, " s\n", "memory       weights ", bytes(report.parameter_bytes), ", optimizer ",
                      bytes(report.optimizer_bytes), ", peak ", bytes(report.peak_memory_bytes), "\n"));
  if (rank.ranks > 1) {
    write_output(concat("each of ", rank.ranks, "    weights ", bytes(rank.parameter_bytes), ", optimizer ",
                        bytes(rank.optimizer_bytes), ", gradients ", bytes(rank.gradient_bytes),
                        " (parallel.zero_stage ", rank.zero_stage, "; calculated, without activations)\n"));
  }
}

void run_train(const Options& options, const GlobalOptions& global) {
  ondol::TrainConfig config = load_config(options, global);
  const ondol::RankInfo info = ondol::find_rank_info();
  if (info.rank != 0 && (options.dump_config || options.dry_run)) return;  // rank 0 answers
  if (options.dump_config) {
    write_output(config.resolved_json());
    return;
  }
  TrainProgress progress(global.quiet);
  if (options.dry_run) {
    if (info.size > 1) {
      ondol::check_process_count(config, info.size);
      config.parallel.data = info.size / config.parallel.tensor;
    }
    ondol::Trainer trainer(std::move(config), {.device = global.device, .observer = &progress});
    report_dry_run(trainer.dry_run(), global.json);
    return;
  }
  install_signal_handlers();
  OwnRank rank(global, config.deterministic);
  ondol::Trainer trainer(std::move(config), {.output = "",
                                             .resume = options.resume,
                                             .device = rank.device(),
                                             .stop = &stop_requested,
                                             .communicator = rank.communicator(),
                                             .observer = &rank.observer(progress)});
  const ondol::TrainResult result = rank.run([&] { return trainer.run(); });
  if (!rank.first()) return;
  if (global.json) {
    const nlohmann::ordered_json out = {
        {"step", result.step}, {"finished", result.finished}, {"directory", result.directory}};
    write_output(out.dump() + "\n");
  } else {
    progress.on_checkpoint(result.directory);
  }
}

}  // namespace

void add_train_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("train", "Train a model as a configuration says");
  verb->add_option("CONFIG.json", options->config, "Training configuration (docs/config.md)")->required();
  verb->add_option("--set", options->overrides, "KEY=VALUE: override a key, e.g. --set train.steps=100")
      ->allow_extra_args(false);
  verb->add_option("--output", options->output, "Run directory (default: runs/<name of the configuration>)")
      ->check(not_empty());
  verb->add_option("--resume", options->resume,
                   "auto (default): continue from the newest whole checkpoint of the run "
                   "directory; never: start over; or a checkpoint or run directory");
  verb->add_flag("--dry-run", options->dry_run, "Build everything, run one batch, report sizes, write nothing");
  verb->add_flag("--dump-config", options->dump_config, "Print the configuration with all defaults and stop");
  program.run_on(verb, [options, &program] { run_train(*options, program.global); });
}
