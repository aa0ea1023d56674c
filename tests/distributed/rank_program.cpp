// The program that the tests of the launcher start: a stand-in for training that can fail on demand.
//
//   rank_program launch PROCESSES RESTARTS DIRECTORY STEPS [FAULT]      by Launcher
//   rank_program spawn PROCESSES DIRECTORY STEPS [FAULT]               with RANK, WORLD_SIZE, ...: rank 0 has the store
//   FAULT = RANK:STEP:MOMENT:ACTION, moments start, compute, collective, save; actions kill, stop, throw, spin, usage
//
// A step multiplies the state and adds the step; rank 0 then saves both in DIRECTORY/checkpoint, from where the next
// start goes on.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <thread>

#include <ondol/base/error.h>
#include <ondol/base/file.h>
#include <ondol/distributed/job.h>

#include "distributed/launcher.h"

namespace {

using ondol::concat;
using Arguments = std::vector<std::string>;

std::atomic<bool> stop_requested{false};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Fault {
  int rank = -1, step = 0;
  std::string moment, action;
};

Fault parse_fault(const std::string& text) {
  Fault fault;
  char moment[32] = "", action[32] = "";
  if (std::sscanf(text.c_str(), "%d:%d:%31[^:]:%31s", &fault.rank, &fault.step, moment, action) == 4) {
    fault.moment = moment;
    fault.action = action;
  }
  return fault;
}

class Worker {
 public:
  Worker(const ondol::RankInfo& info, std::string directory, int steps, const Fault& fault)
      : info_(info), directory_(std::move(directory)), steps_(steps), fault_(fault) {}

  void run() {
    at("start", 0);
    ondol::JobOptions options = ondol::find_job_options();
    options.on_overdue = [this](const std::string& message) {
      note("overdue", message);
      ::_exit(1);
    };
    ondol::Job job(info_, options);
    const auto watched = job.watch(
        [this] { return collective_ == 0 ? "" : concat("all_reduce #", collective_.load(), ", 64 bytes"); }, nullptr);
    try {
      work(job);
    } catch (...) {
      job.give_up(std::current_exception());
    }
  }

  void note(const std::string& what, const std::string& text) const {
    ondol::write_file_atomic(concat(directory_, "/", what, "-", info_.rank), text);
  }

 private:
  void work(ondol::Job& job) {
    int step = 0;
    unsigned long long state = 1;
    std::ifstream(directory_ + "/checkpoint") >> step >> state;
    while (step < steps_) {
      job.set_step(++step);
      note("step", std::to_string(step));
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      at("compute", step);
      state = state * 6364136223846793005ull + static_cast<unsigned long long>(step);
      std::jthread late;
      if (fault_.moment == "collective" && step == fault_.step) {  // the rank waits in it then, as it comes first
        if (info_.rank != fault_.rank) std::this_thread::sleep_for(std::chrono::milliseconds(200));
        late = std::jthread([&] {
          std::this_thread::sleep_for(std::chrono::milliseconds(100));
          at("collective", step);
        });
      }
      ++collective_;
      const std::vector<std::string> flags =
          job.store().gather("stop", info_.rank, info_.size, stop_requested ? "1" : "", std::chrono::minutes(1));
      const bool stop = std::any_of(flags.begin(), flags.end(), [](const std::string& flag) { return !flag.empty(); });
      if (late.joinable()) late.join();
      if (info_.rank == 0) {
        const auto busy = job.long_work("saves");
        at("save", step);
        ondol::write_file_atomic(directory_ + "/checkpoint", concat(step, " ", state, "\n"));
      } else {
        at("save", step);
      }
      if (stop) return note("stopped", std::to_string(step));
    }
    note("final", concat(step, " ", state));
  }

  void at(const std::string& moment, int step) {
    if (info_.rank != fault_.rank || moment != fault_.moment || step != fault_.step) return;
    note("fault", std::to_string(now()));
    if (fault_.action == "kill") ::kill(::getpid(), SIGKILL);
    if (fault_.action == "stop") ::kill(::getpid(), SIGSTOP);
    if (fault_.action == "throw") throw ondol::Error("no space left on device (checkpoint)");
    if (fault_.action == "usage") throw ondol::UsageError("no such file (data.txt)");
    while (fault_.action == "spin") std::this_thread::sleep_for(std::chrono::seconds(1));
  }

  ondol::RankInfo info_;
  std::string directory_;
  int steps_;
  Fault fault_;
  std::atomic<int64_t> collective_{0};
};

int run_rank(const std::string& directory, int steps, const Fault& fault) {
  std::signal(SIGTERM, [](int) { stop_requested = true; });
  const ondol::RankInfo info = ondol::find_rank_info();
  Worker worker(info, directory, steps, fault);
  try {
    worker.run();
    return 0;
  } catch (const ondol::Error& error) {
    worker.note("error", error.what());
    worker.note("left", std::to_string(now()));
    std::cerr << "error: " << error.what() << std::endl;
    return static_cast<int>(error.kind());
  }
}

int launch(const Arguments& arguments) {
  ondol::LaunchOptions options;
  options.processes = std::stoi(arguments.at(1));
  options.restarts = std::stoi(arguments.at(2));
  options.limits = ondol::find_job_options().limits;
  options.leave_time = std::chrono::milliseconds(2500);
  options.program = "/proc/self/exe";
  options.arguments = [&](const ondol::RankInfo&, int attempt) {
    Arguments rank = {"rank", arguments.at(3), arguments.at(4)};
    if (attempt == 0 && arguments.size() > 5) rank.push_back(arguments[5]);
    return rank;
  };
  options.on_line = [](int rank, const std::string& line) { std::cerr << "[" << rank << "] " << line << std::endl; };
  options.on_notice = [](const std::string& text) { std::cerr << "notice: " << text << std::endl; };
  const ondol::LaunchResult result = ondol::Launcher(options).run();
  if (!result.failure.empty()) std::cerr << "error: " << result.failure << std::endl;
  return result.code;
}

/// Without the launcher, as another one would start it; a stopped process is killed once the others have left.
int spawn(const Arguments& arguments) {
  const int processes = std::stoi(arguments.at(1));
  std::vector<pid_t> children;
  for (int rank = 0; rank < processes; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("RANK", std::to_string(rank).c_str(), 1);
      ::setenv("WORLD_SIZE", std::to_string(processes).c_str(), 1);
      ::_exit(run_rank(arguments.at(2), std::stoi(arguments.at(3)),
                       arguments.size() > 4 ? parse_fault(arguments[4]) : Fault()));
    }
    children.push_back(child);
  }
  int running = processes, code = 0, stopped = 0;
  while (running > stopped) {
    int status = 0;
    if (::waitpid(-1, &status, WUNTRACED) <= 0) break;
    if (WIFSTOPPED(status)) {
      ++stopped;
      continue;
    }
    --running;
    if (status != 0) code = 1;
  }
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  try {
    const std::string mode = arguments.at(0);
    if (mode == "launch") return launch(arguments);
    if (mode == "spawn") return spawn(arguments);
    if (mode == "rank") {
      return run_rank(arguments.at(1), std::stoi(arguments.at(2)),
                      arguments.size() > 3 ? parse_fault(arguments[3]) : Fault());
    }
    std::cerr << "unknown mode\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
  }
  return 2;
}
