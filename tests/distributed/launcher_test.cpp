// Processes that die, hang, fail and are asked to stop, at every rank and moment: the right rank is named in time and
// nobody stays behind.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include <ondol/base/error.h>

#include <gtest/gtest.h>

#include "distributed/store_socket.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;

constexpr int kRanks = 3;
constexpr int kSteps = 12;

struct Ended {
  int code = -1;
  std::string errors;
};

pid_t start(const std::vector<std::string>& arguments, const TemporaryDirectory& directory,
            const std::vector<std::string>& variables) {
  const std::string program = ONDOL_BINARY_DIR "/bin/rank_program", log = directory / "log";
  std::vector<std::string> texts = {program};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  environment.insert(environment.end(), variables.begin(), variables.end());
  std::vector<char*> argv, env;
  for (std::string& text : texts) argv.push_back(text.data());
  for (std::string& text : environment) env.push_back(text.data());
  argv.push_back(nullptr);
  env.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), 2);
  ::execve(argv[0], argv.data(), env.data());
  ::_exit(127);
}

Ended wait_for(pid_t child, const TemporaryDirectory& directory) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), directory.read("log")};
}

const std::vector<std::string> kQuick = {"ONDOL_SILENCE_SECONDS=3", "ONDOL_STUCK_SECONDS=3", "ONDOL_LEAVE_SECONDS=1",
                                         "ONDOL_JOIN_SECONDS=30"};

std::vector<std::string> launching(const TemporaryDirectory& directory, const std::string& fault = "", int restarts = 0,
                                   int steps = kSteps, int processes = kRanks) {
  std::vector<std::string> arguments = {"launch", std::to_string(processes), std::to_string(restarts), directory.path(),
                                        std::to_string(steps)};
  if (!fault.empty()) arguments.push_back(fault);
  return arguments;
}

Ended launch(const TemporaryDirectory& directory, const std::string& fault = "", int restarts = 0) {
  return wait_for(start(launching(directory, fault, restarts), directory, kQuick), directory);
}

/// The ranks that live, found by their command lines.
std::vector<pid_t> ranks_of(const TemporaryDirectory& directory) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    const bool is_rank = line.find(std::string("\0rank\0", 6)) != std::string::npos ||
                         line.find(std::string("\0spawn\0", 7)) != std::string::npos;
    if (is_rank && line.find(directory.path()) != std::string::npos) {
      found.push_back(std::stoi(entry.path().filename().string()));
    }
  }
  return found;
}

bool exists(const TemporaryDirectory& directory, const std::string& name) {
  return std::filesystem::exists(directory / name);
}

void wait_for_file(const TemporaryDirectory& directory, const std::string& name) {
  for (int i = 0; i < 1000 && !exists(directory, name); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

double number_in(const TemporaryDirectory& directory, const std::string& name) {
  return exists(directory, name) ? std::stod(directory.read(name)) : -1.0;
}

std::string undisturbed() {
  static const std::string final_state = [] {
    const TemporaryDirectory directory;
    EXPECT_EQ(launch(directory).code, 0);
    return directory.read("final-0");
  }();
  return final_state;
}

/// All ranks but the failed one have left within `seconds` and named it.
void expect_named(const TemporaryDirectory& directory, int failed, double seconds, const std::string& what) {
  const double begin = number_in(directory, concat("fault-", failed));
  ASSERT_GT(begin, 0.0) << what;
  for (int rank = 0; rank < kRanks; ++rank) {
    if (rank == failed) continue;
    const double left = number_in(directory, concat("left-", rank));
    EXPECT_GT(left, 0.0) << what << ": rank " << rank << " has not left with an error";
    EXPECT_LE(left - begin, seconds) << what << ": rank " << rank;
    const std::string error = exists(directory, concat("error-", rank)) ? directory.read(concat("error-", rank)) : "";
    EXPECT_TRUE(error.starts_with(concat("rank ", failed, " "))) << what << ": rank " << rank << " says " << error;
    EXPECT_NE(error.find("host " + host_name()), std::string::npos) << error;
  }
  EXPECT_EQ(ranks_of(directory).size(), 0u) << what;
}

TEST(Launcher, AllEndWell) {
  const TemporaryDirectory directory;
  const Ended run = launch(directory);
  EXPECT_EQ(run.code, 0) << run.errors;
  EXPECT_EQ(run.errors, "");
  for (int rank = 1; rank < kRanks; ++rank) EXPECT_EQ(directory.read(concat("final-", rank)), undisturbed());
}

TEST(Launcher, ADeadRankIsNamedByAllWithinFiveSeconds) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    for (const char* moment : {"compute", "collective", "save"}) {
      threads.emplace_back([rank, moment] {
        const TemporaryDirectory directory;
        const std::string fault = concat(rank, ":5:", moment, ":kill");
        const Ended run = launch(directory, fault);
        EXPECT_EQ(run.code, 1);
        expect_named(directory, rank, 5.0, fault);
        EXPECT_NE(run.errors.find(concat("error: rank ", rank, " failed first: killed by signal 9 (Killed) (host ")),
                  std::string::npos)
            << run.errors;
        EXPECT_NE(run.errors.find(", step 5, last collective all_reduce #"), std::string::npos) << run.errors;
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Launcher, AHungRankIsNamedByAll) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    for (const char* moment : {"compute:stop", "collective:stop", "save:stop", "compute:spin"}) {
      threads.emplace_back([rank, moment] {
        const TemporaryDirectory directory;
        const std::string fault = concat(rank, ":5:", moment);
        const Ended run = launch(directory, fault);
        EXPECT_EQ(run.code, 1);
        expect_named(directory, rank, 8.0, fault);
        const bool stops = fault.ends_with("stop");
        EXPECT_NE(run.errors.find(concat("\nerror: rank ", rank, stops ? " does not answer" : " is stuck")),
                  std::string::npos)
            << run.errors;
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Launcher, AStoppedRankIsNamedWithinThirtySecondsWithTheTimesThatArePreset) {
  const TemporaryDirectory directory;
  wait_for(start(launching(directory, "1:5:compute:stop"), directory, {}), directory);
  expect_named(directory, 1, 30.0, "preset times");
}

TEST(Launcher, ARankThatDiesBeforeItHasJoinedEndsTheOthers) {
  const TemporaryDirectory directory;
  const Ended run = launch(directory, "2:0:start:kill");
  EXPECT_EQ(run.code, 1);
  EXPECT_NE(run.errors.find("error: rank 2 failed first: killed by signal 9 (Killed)"), std::string::npos)
      << run.errors;
  EXPECT_EQ(ranks_of(directory).size(), 0u);
}

TEST(Launcher, TheErrorAndTheCodeOfTheFirstFailedRankAreHandedOn) {
  const TemporaryDirectory directory, wrong;
  const Ended run = launch(directory, "1:4:compute:throw");
  EXPECT_EQ(run.code, 1);
  EXPECT_NE(run.errors.find("[1] error: no space left on device (checkpoint)"), std::string::npos) << run.errors;
  const Ended again = launch(directory, "1:6:compute:throw", 2);
  EXPECT_EQ(again.code, 0) << again.errors;
  EXPECT_NE(again.errors.find("starting again with 3 of 3 processes (restart 1 of 2)"), std::string::npos)
      << again.errors;
  EXPECT_EQ(directory.read("final-2"), undisturbed());
  const Ended usage = launch(wrong, "1:4:compute:usage", 2);
  EXPECT_EQ(usage.code, 2);
  EXPECT_EQ(usage.errors.find("starting again"), std::string::npos) << usage.errors;  // wrong use stays wrong
}

TEST(Launcher, RestartsGoOnWithTheRanksThatRemain) {
  for (const char* fault : {"1:5:compute:kill", "0:6:collective:kill", "2:4:compute:stop"}) {
    const TemporaryDirectory directory;
    const Ended run = launch(directory, fault, 1);
    EXPECT_EQ(run.code, 0) << run.errors;
    EXPECT_NE(run.errors.find("starting again with 2 of 3 processes (restart 1 of 1)"), std::string::npos)
        << run.errors;
    EXPECT_EQ(directory.read("final-0"), undisturbed()) << fault;
    EXPECT_EQ(directory.read("final-1"), undisturbed()) << fault;
    EXPECT_EQ(ranks_of(directory).size(), 0u);
  }
}

void expect_all_stopped_at_the_same_step(const TemporaryDirectory& directory) {
  for (int rank = 1; rank < kRanks; ++rank) {
    EXPECT_EQ(directory.read(concat("stopped-", rank)), directory.read("stopped-0"));
  }
}

TEST(Launcher, TerminationStopsAllAtTheSameStep) {
  const TemporaryDirectory directory;
  const pid_t launcher = start(launching(directory, "", 1, 100000), directory, kQuick);
  wait_for_file(directory, "step-2");
  ::kill(launcher, SIGTERM);
  const Ended run = wait_for(launcher, directory);
  EXPECT_EQ(run.code, 0) << run.errors;
  expect_all_stopped_at_the_same_step(directory);
}

TEST(Launcher, TerminationOfOneRankStopsAllAtTheSameStep) {
  const TemporaryDirectory directory;
  const pid_t launcher = start(launching(directory, "", 0, 100000), directory, kQuick);
  wait_for_file(directory, "step-2");
  const std::vector<pid_t> ranks = ranks_of(directory);
  ASSERT_EQ(ranks.size(), 3u);
  ::kill(ranks[1], SIGTERM);
  EXPECT_EQ(wait_for(launcher, directory).code, 0);
  expect_all_stopped_at_the_same_step(directory);
}

TEST(Launcher, NobodyOutlivesAKilledLauncher) {
  const TemporaryDirectory directory;
  const pid_t launcher = start(launching(directory, "", 0, 100000), directory, kQuick);
  wait_for_file(directory, "step-2");
  EXPECT_EQ(ranks_of(directory).size(), 3u);
  ::kill(launcher, SIGKILL);
  wait_for(launcher, directory);
  for (int i = 0; i < 100 && !ranks_of(directory).empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(ranks_of(directory).size(), 0u);
}

TEST(RankZeroHoldsTheStore, FailuresAreNamedByAll) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    for (const char* what : {"compute:kill", "collective:kill", "compute:stop", "save:stop"}) {
      const int port = 20000 + (::getpid() * 16 + static_cast<int>(threads.size())) % 10000;
      threads.emplace_back([rank, what, port] {
        const TemporaryDirectory directory;
        std::vector<std::string> variables = kQuick;
        variables.push_back("MASTER_ADDR=127.0.0.1");
        variables.push_back(concat("MASTER_PORT=", port));
        const std::string fault = concat(rank, ":5:", what);
        const std::vector<std::string> arguments = {"spawn", std::to_string(kRanks), directory.path(),
                                                    std::to_string(kSteps), fault};
        const Ended run = wait_for(start(arguments, directory, variables), directory);
        EXPECT_EQ(run.code, 1) << run.errors;
        expect_named(directory, rank, fault.ends_with("kill") ? 5.0 : 12.0, fault);
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace ondol
