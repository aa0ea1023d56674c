// ondol launch --processes N VERB ...: runs a verb in several processes that work together.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <thread>

#include <unistd.h>

#include <ondol/base/parallel.h>
#include <ondol/distributed/communicator.h>
#include <ondol/distributed/job.h>

#include "distributed/launcher.h"
#include "launch_command.h"
#include "option_checks.h"
#include "output.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;
using Arguments = std::vector<std::string>;

struct Options {
  int processes = 0;
  int restarts = 0;
  int nodes = 1;
  int node_rank = 0;
  std::string transport = "auto";
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void check_place(const Options& options) {
  if (options.processes == 0) {
    throw UsageError("wrong command line: --processes is required (ondol launch)", "see ondol launch --help");
  }
  if (!variable("ONDOL_RANK").empty()) {
    throw UsageError("cannot launch: this is a process of another ondol launch already (ONDOL_RANK is set)");
  }
  ondol::comm_transport_from_name(options.transport);
  if (options.node_rank >= options.nodes) {
    throw UsageError(concat("cannot launch: no node ", options.node_rank, " of ", options.nodes, " (--node-rank)"),
                     "nodes are counted from 0");
  }
  if (options.nodes > 1 && options.restarts > 0) {
    throw UsageError("cannot launch: --restarts works on a single node (--nodes)",
                     "start all nodes again; the run goes on from its last whole checkpoint");
  }
  if (options.nodes == 1) return;
  if (variable("MASTER_ADDR").empty() || variable("MASTER_PORT").empty()) {
    throw UsageError("cannot launch: several nodes need MASTER_ADDR and MASTER_PORT (--nodes)",
                     "set them to the address of node 0 and a free port there");
  }
  if (variable("ONDOL_JOB_SECRET").empty()) {
    throw UsageError("cannot launch: several nodes need ONDOL_JOB_SECRET (--nodes)",
                     "export ONDOL_JOB_SECRET=$(openssl rand -hex 16) once and set the same on all nodes");
  }
}

int master_port() {
  const std::string text = variable("MASTER_PORT");
  const std::string wrong = whole_number<int>(1)(text);
  if (!wrong.empty() || std::stoi(text) > 65535)
    throw UsageError(concat("wrong environment: MASTER_PORT is \"", text, "\""));
  return std::stoi(text);
}

/// The flags of this program that the processes get as well.
Arguments flags_of(const GlobalOptions& global, int threads) {
  Arguments flags = {"--threads", std::to_string(threads), "--log-level", global.log_level, "--device", global.device};
  if (!global.dtype_name.empty()) flags.insert(flags.end(), {"--dtype", global.dtype_name});
  if (global.quiet) flags.push_back("--quiet");
  if (global.json) flags.push_back("--json");
  return flags;
}

ondol::LaunchOptions launch_options(const Options& options, const GlobalOptions& global, const Arguments& command) {
  const ondol::JobOptions job = ondol::find_job_options();
  const int threads = global.threads > 0 ? global.threads : std::max(1, ondol::num_threads() / options.processes);
  ondol::LaunchOptions launch;
  launch.processes = options.processes;
  launch.restarts = options.restarts;
  launch.nodes = options.nodes;
  launch.node_rank = options.node_rank;
  launch.limits = job.limits;
  launch.leave_time = job.leave_time + std::chrono::seconds(3);
  if (options.nodes > 1) {
    launch.master_address = variable("MASTER_ADDR");
    launch.master_port = master_port();
    launch.job_secret = variable("ONDOL_JOB_SECRET");
  }
  launch.keep_terminal = ::isatty(STDERR_FILENO) == 1;  // where rank 0 shows its progress
  launch.program = "/proc/self/exe";
  launch.variables = {"ONDOL_TRANSPORT=" + options.transport};
  // What is wrong with a configuration, all ranks say: it is shown once. Which rank they end for, each says for itself.
  const auto complaints = std::make_shared<std::set<std::string>>();
  launch.arguments = [flags = flags_of(global, threads), command, complaints](const ondol::RankInfo&, int attempt) {
    complaints->clear();
    return rank_command(flags, command, attempt);
  };
  launch.on_line = [complaints](int rank, const std::string& line) {
    const bool error = line.starts_with("error: ") && !line.starts_with("error: rank ");
    const bool complaint = error || line.starts_with("hint: ");
    if (complaint && !complaints->insert(line).second) return;
    const std::string text = concat("[", rank, "] ", line, "\n");
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  };
  launch.on_notice = [](const std::string& text) { log(LogLevel::warning, text); };
  return launch;
}

void run_launch(const Options& options, const Program& program) {
  check_place(options);
  const Arguments& command = program.launched;
  if (command.empty()) {
    throw UsageError("cannot launch: no verb to run (ondol launch)",
                     "e.g. ondol launch --processes 2 train CONFIG.json");
  }
  if (command.front() == "launch")
    throw UsageError("cannot launch: launch does not start itself (ondol launch launch)");
  flush_output();
  const ondol::LaunchResult result = ondol::Launcher(launch_options(options, program.global, command)).run();
  if (result.failure.empty()) return;
  throw ondol::Error(result.failure, "", static_cast<ondol::ErrorKind>(result.code));
}

}  // namespace

void add_launch_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("launch", "Run a verb in several processes that work together");
  verb->footer("Behind these options stand the verb and all of its own: ondol launch --processes 2 train CONFIG.json");
  verb->add_option("--processes", options->processes, "Processes on this host: one for each GPU, or N on the CPU")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--transport", options->transport, "auto, nccl, mpi, shm or tcp")->capture_default_str();
  verb->add_option("--restarts", options->restarts, "Start again so often, with the ranks that remain")
      ->check(CLI::Range(0, 1000000));
  verb->add_option("--nodes", options->nodes, "Hosts, each of which runs ondol launch (MASTER_ADDR, MASTER_PORT)")
      ->check(CLI::Range(1, 65536));
  verb->add_option("--node-rank", options->node_rank, "Which of them this is, from 0")->check(CLI::Range(0, 65535));
  program.run_on(verb, [options, &program] { run_launch(*options, program); });
}
