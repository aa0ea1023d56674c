// Starts the processes of a job on this host, watches over them and leaves none behind.
//
//   Launcher launcher({.processes = 4, .program = "/proc/self/exe", .arguments = …, .on_line = …, .on_notice = …});
//   LaunchResult result = launcher.run();          // {.code = 0} when all ranks have ended well
//
// The launcher holds the job's store (on the first host, where there are several). Each rank gets its place by
// variables (rank_info.h), a process group of its own, no input, and dies with the launcher however that ends. Rank 0
// keeps this process's standard output; all that the others say, and what any says on standard error, comes by line to
// on_line. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to all ranks, SIGTSTP stops all of them.
// When a rank has failed, the others are given time to leave by themselves and are then killed with all that they have
// started.
//
// run() must be called by the main thread before others are started, as it takes the signals of the process.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include <ondol/distributed/rank_info.h>
#include <ondol/distributed/store.h>

namespace ondol {

struct LaunchOptions {
  int processes = 1;  // on this host; the same number on all
  int nodes = 1;
  int node_rank = 0;
  std::string master_address = "127.0.0.1";  // of node 0
  int master_port = 0;                       // 0: one that is free, for a single node
  std::string job_secret;                    // "": a new one, for a single node
  int restarts = 0;
  StoreLimits limits;
  std::chrono::milliseconds leave_time = std::chrono::seconds(8);  // for ranks, once one has failed
  bool keep_terminal = false;                                      // rank 0's standard error is not read by line either

  std::string program;
  /// Of one rank; `attempt` counts restarts.
  std::function<std::vector<std::string>(const RankInfo& info, int attempt)> arguments;
  std::vector<std::string> variables;  // "NAME=VALUE" for all ranks, beside those of this process
  std::function<void(int rank, const std::string& line)> on_line;
  std::function<void(const std::string& text)> on_notice;
};

struct LaunchResult {
  int code = 0;         // exit code of the rank that failed first; 1 when it was killed
  std::string failure;  // which rank that was and why, one line; "": all went well
};

class Launcher {
 public:
  explicit Launcher(LaunchOptions options) : options_(std::move(options)) {}
  /// Throws Error when the store or a process cannot be started.
  LaunchResult run();

 private:
  LaunchOptions options_;
};

}  // namespace ondol
