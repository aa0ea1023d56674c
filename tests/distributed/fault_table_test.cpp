// Ranks of real training runs that are killed and stopped in a forward, a backward, a collective and a save: the others
// end in time, the right rank is named, nobody is left, and the next start goes on to the bytes of an undisturbed run.
//
// ONDOL_FAULT_RUNS=40 runs as many, with the limits that are preset, instead of the share of the usual tests, and
// prints a line for each.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>

#include "support/temporary_directory.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;
using Arguments = std::vector<std::string>;

constexpr int kRanks = 3;
constexpr const char* kMoments[] = {"forward", "backward", "collective", "save"};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct FaultRun {
  int rank = 0, step = 0;
  std::string moment, action;
  double fraction = 0.5;
  bool by_mpirun = false;

  std::string variable() const { return concat(rank, ":", step, ":", moment, ":", action, ":", fraction); }
};

/// A run at random: moments and actions in turn, the rest drawn.
FaultRun drawn(uint32_t number) {
  const auto draw = [&](uint32_t stream) { return philox_word({77, stream, 0}, number); };
  FaultRun run{.step = 3 + static_cast<int>(draw(1) % 14), .moment = kMoments[number % 4]};
  run.action = number / 4 % 2 == 0 ? "kill" : "stop";
  run.rank = static_cast<int>(draw(2) % kRanks);
  run.fraction = static_cast<double>(draw(3) % 100) / 100.0;
  run.by_mpirun = number % 5 == 4;
  return run;
}

class Program {
 public:
  explicit Program(const TemporaryDirectory& directory) : directory_(directory) {
    testing::write_tiny_inputs(directory, 0.1);
    const TrainConfig config = testing::tiny_config(directory, "run",
                                                    {"train.steps=24", "train.batch_size=6", "checkpoint.every=3",
                                                     "evaluation.every=0", "logging.tensorboard=false"});
    directory.write("config.json", config.resolved_json());
  }

  /// Exit code, or 128 + the signal.
  int run(const Arguments& arguments, const Arguments& variables) {
    Arguments environment = variables;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    std::vector<char*> argv, env;
    Arguments texts = arguments;
    for (std::string& text : texts) argv.push_back(text.data());
    for (std::string& text : environment) env.push_back(text.data());
    argv.push_back(nullptr);
    env.push_back(nullptr);
    const std::string log = directory_ / "log";
    const pid_t child = ::fork();
    if (child == 0) {
      const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup2(file, 1);
      ::dup2(file, 2);
      ::execvpe(argv[0], argv.data(), env.data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  Arguments command(bool by_mpirun) const {
    const std::string program = ONDOL_BINARY_DIR "/bin/ondol_with_faults";
    Arguments arguments = {"mpirun", "--allow-run-as-root", "--oversubscribe", "-n", std::to_string(kRanks), program};
    if (!by_mpirun) arguments = {program, "--threads", "1", "launch", "--processes", std::to_string(kRanks)};
    arguments.insert(arguments.end(), {"train", directory_ / "config.json"});
    if (by_mpirun) arguments.insert(arguments.end(), {"--threads", "1"});
    return arguments;
  }

  /// Processes whose command lines have the directory.
  int left() const {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(entry.path() / "cmdline", std::ios::binary);
      const std::string line((std::istreambuf_iterator<char>(file)), {});
      count += line.find(directory_.path()) != std::string::npos;
    }
    return count;
  }

 private:
  const TemporaryDirectory& directory_;
};

/// The files of a run that nobody disturbed.
struct Undisturbed {
  Undisturbed() {
    const TemporaryDirectory directory;
    Program program(directory);
    EXPECT_EQ(program.run(program.command(false), {}), 0) << directory.read("log");
    metrics = testing::timeless_metrics(directory / "run");
    weights = directory.read("run/final/model.safetensors");
    optimizer = directory.read("run/checkpoint-24/optimizer.safetensors");
  }
  std::string metrics, weights, optimizer;
};

const Undisturbed& undisturbed() {
  static const Undisturbed run;
  return run;
}

/// What the survivors say: each has a line of its own that names the rank. mpirun may kill them before they come to it.
void expect_named(const FaultRun& fault, const std::string& log) {
  if (fault.by_mpirun) {
    EXPECT_TRUE(log.find(concat("rank ", fault.rank, " ")) != std::string::npos) << log;
    return;
  }
  for (int rank = 0; rank < kRanks; ++rank) {
    if (rank == fault.rank) continue;
    EXPECT_NE(log.find(concat("[", rank, "] error: rank ", fault.rank, " ")), std::string::npos) << log;
  }
  const std::string how = fault.action == "kill" ? " failed first: killed by signal 9 (Killed)" : " does not answer";
  EXPECT_NE(log.find(concat("\nerror: rank ", fault.rank, how)), std::string::npos) << log;
}

struct Times {
  double ended = 0.0, all = 0.0;  // seconds from the fault to the end of the others, and of the restart
};

Times check(const FaultRun& fault, const Arguments& limits) {
  SCOPED_TRACE(concat(fault.by_mpirun ? "mpirun " : "launch ", fault.variable()));
  const TemporaryDirectory directory;
  Program program(directory);
  Arguments variables = limits;
  variables.push_back("ONDOL_FAULT=" + fault.variable());
  variables.push_back("ONDOL_FAULT_DIRECTORY=" + directory.path());
  const int code = program.run(program.command(fault.by_mpirun), variables);
  const double end = now();
  const std::string log = directory.read("log");
  EXPECT_NE(code, 0) << log;
  if (!std::filesystem::exists(directory / "fault")) {
    ADD_FAILURE() << "the fault did not come: " << log;
    return {};
  }
  Times times;
  times.ended = end - std::stod(directory.read("fault"));
  EXPECT_LE(times.ended, fault.action == "kill" ? 5.0 : 30.0) << log;
  EXPECT_EQ(program.left(), 0);
  expect_named(fault, log);
  EXPECT_EQ(program.run(program.command(false), {}), 0) << directory.read("log");
  times.all = now() - end;
  EXPECT_EQ(testing::timeless_metrics(directory / "run"), undisturbed().metrics);
  EXPECT_EQ(directory.read("run/final/model.safetensors"), undisturbed().weights);
  EXPECT_EQ(directory.read("run/checkpoint-24/optimizer.safetensors"), undisturbed().optimizer);
  return times;
}

const Arguments kQuick = {"ONDOL_SILENCE_SECONDS=4", "ONDOL_STUCK_SECONDS=4", "ONDOL_LEAVE_SECONDS=1"};

TEST(FaultTable, RanksOfTrainingRunsAreNamedAndTheRunGoesOn) {
  undisturbed();
  const char* wanted = std::getenv("ONDOL_FAULT_RUNS");
  if (wanted != nullptr) {
    int passed = 0;
    for (uint32_t number = 0; number < static_cast<uint32_t>(std::stoi(wanted)); ++number) {
      const FaultRun fault = drawn(number);
      const bool before = ::testing::Test::HasFailure();
      const Times times = check(fault, {});
      const bool good = before == ::testing::Test::HasFailure();
      passed += good;
      std::printf("%2u  %-6s rank %d step %2d  %-10s at %.2f  %s  ended after %5.2f s, restart took %.2f s  %s\n",
                  number, fault.by_mpirun ? "mpirun" : "launch", fault.rank, fault.step, fault.moment.c_str(),
                  fault.fraction, fault.action.c_str(), times.ended, times.all, good ? "ok" : "FAILED");
      std::fflush(stdout);
    }
    std::printf("%d of %s runs passed\n", passed, wanted);
    return;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    FaultRun fault{.rank = i % kRanks, .step = 4 + i, .moment = kMoments[i % 4], .action = i < 4 ? "kill" : "stop"};
    fault.fraction = 0.1 * i;
    threads.emplace_back([fault] { check(fault, kQuick); });
    if (threads.size() < 4) continue;
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
}

}  // namespace
}  // namespace ondol
