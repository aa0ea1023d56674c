#include "support/ranks.h"

#include <cctype>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include <ondol/base/error.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

namespace {
using Clock = std::chrono::steady_clock;
}

std::string DirectoryRendezvous::path_of(const std::string& key) const {
  std::string name;
  for (const char c : key) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return directory_ + "/" + name;
}

void DirectoryRendezvous::set(const std::string& key, const std::string& value) {
  const std::string path = path_of(key);
  const std::string written = concat(path, ".of-", getpid());
  std::ofstream(written, std::ios::binary) << value;
  ONDOL_CHECK(std::rename(written.c_str(), path.c_str()) == 0, "rendezvous: cannot write ", path);
}

std::string DirectoryRendezvous::get(const std::string& key, std::chrono::milliseconds timeout) {
  const auto end = Clock::now() + timeout;
  do {
    std::ifstream in(path_of(key), std::ios::binary);
    if (in) return {std::istreambuf_iterator<char>(in), {}};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } while (Clock::now() < end);
  throw_error("rendezvous: nobody has set \"", key, "\" within ", timeout.count(), " ms");
}

RankRun run_ranks_with(int size, const RankBody& body, const std::function<void(const std::vector<int>&)>& meanwhile,
                       std::chrono::seconds limit) {
  const TemporaryDirectory directory;
  const auto start = Clock::now();
  std::vector<int> processes;
  for (int r = 0; r < size; ++r) {
    const int process = fork();
    ONDOL_CHECK(process >= 0, "fork failed");
    if (process == 0) {
      int code = 0;
      try {
        body({.rank = r, .size = size, .local_rank = r, .local_size = size},
             std::make_shared<DirectoryRendezvous>(directory.path()));
      } catch (const std::exception& error) {
        code = 1;
        std::ofstream(directory / concat("error-", r)) << error.what();
      }
      _exit(code);
    }
    processes.push_back(process);
  }
  meanwhile(processes);
  RankRun run{std::vector<std::string>(static_cast<size_t>(size)), std::vector<double>(static_cast<size_t>(size))};
  std::vector<bool> ended(static_cast<size_t>(size), false);
  for (int left = size; left > 0;) {
    for (size_t r = 0; r < ended.size(); ++r) {
      int status = 0;
      if (ended[r] || waitpid(processes[r], &status, WNOHANG) != processes[r]) continue;
      ended[r] = true;
      --left;
      run.seconds[r] = std::chrono::duration<double>(Clock::now() - start).count();
      if (WIFSIGNALED(status) && run.errors[r].empty()) run.errors[r] = concat("signal ", WTERMSIG(status));
      if (WIFEXITED(status) && WEXITSTATUS(status) != 0) run.errors[r] = directory.read(concat("error-", r));
    }
    if (Clock::now() - start > limit) {
      for (size_t r = 0; r < ended.size(); ++r) {
        if (ended[r]) continue;
        run.errors[r] = concat("still running after ", limit.count(), " s");
        kill(processes[r], SIGKILL);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return run;
}

std::vector<std::string> run_ranks(int size, const RankBody& body) {
  return run_ranks_with(size, body, [](const std::vector<int>&) {}).errors;
}

}  // namespace ondol::testing
