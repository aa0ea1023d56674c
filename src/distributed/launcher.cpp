#include "distributed/launcher.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <set>

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ondol/base/error.h>

#include "distributed/rank_process.h"
#include "distributed/sha256.h"

namespace ondol {

namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kReapTime{1000};
constexpr int kUsageCode = 2;

/// The signals of this process as a descriptor, until the end of its life.
class Signals {
 public:
  Signals() {
    sigset_t wanted;
    ::sigemptyset(&wanted);
    for (const int number : kPassedOn) ::sigaddset(&wanted, number);
    ::sigaddset(&wanted, SIGTSTP);
    ::sigaddset(&wanted, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &wanted, &before_);
    descriptor_ = Socket(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~Signals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;

  int fd() const { return descriptor_.fd(); }
  /// The number of one that has come, 0 if none has.
  int next() const {
    signalfd_siginfo info{};
    return ::read(fd(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  sigset_t before_;
  Socket descriptor_;
};

int exit_code(const RankProcess& process) {
  return WIFEXITED(process.wait_status()) ? WEXITSTATUS(process.wait_status()) : 1;
}

/// One attempt: from the start of the processes to the end of the last.
class Attempt {
 public:
  struct Outcome {
    LaunchResult result;
    int lost = 0;          // ranks that cannot be counted on any more
    bool stopped = false;  // by a signal to the launcher
  };

  Attempt(const LaunchOptions& options, const Signals& signals, int processes, int number)
      : options_(options), signals_(signals), processes_(processes), number_(number) {}

  Outcome run();

 private:
  RankInfo place(int local_rank) const;
  void start_store();
  void start_processes();
  void handle_signals();
  void stop_all();
  void wait_for_events() const;
  void look_for_failures();
  void look_at_store(const JobFailure& failure);
  void note_failure(int rank, const std::string& message, int code);
  const RankProcess* process_of(int rank) const;
  std::string end_of(const RankProcess& process) const;
  void wait_for_other_nodes();
  bool running() const;
  bool only_the_hung_remain() const;

  const LaunchOptions& options_;
  const Signals& signals_;
  int processes_, number_;
  std::unique_ptr<StoreServer> store_;
  int port_ = 0;
  std::string secret_;
  std::vector<std::unique_ptr<RankProcess>> ranks_;
  std::set<int> killed_, counted_;           // by this launcher; whose end has been looked at
  std::optional<Time> told_at_, failed_at_;  // when the store, and this launcher, took note of the first failure
  int first_failed_ = -1;
  Outcome outcome_;
};

RankInfo Attempt::place(int local_rank) const {
  return {.rank = options_.node_rank * processes_ + local_rank,
          .size = options_.nodes * processes_,
          .local_rank = local_rank,
          .local_size = processes_,
          .master_address = options_.master_address,
          .master_port = port_,
          .job_secret = secret_,
          .store_in_launcher = true,
          .started_by = "ondol launch"};
}

void Attempt::start_store() {
  secret_ = options_.job_secret.empty() ? to_hex(random_bytes(16)) : options_.job_secret;
  port_ = options_.master_port;
  if (options_.node_rank != 0) return;
  store_ = std::make_unique<StoreServer>(StoreServerOptions{
      .secret = secret_, .port = port_, .loopback_only = options_.nodes == 1, .limits = options_.limits});
  port_ = store_->port();
}

void Attempt::start_processes() {
  for (int local_rank = 0; local_rank < processes_; ++local_rank) {
    const RankInfo info = place(local_rank);
    RankProcess::Start start{.program = options_.program,
                             .arguments = options_.arguments(info, number_),
                             .environment = {},
                             .own_output = info.rank == 0,
                             .own_errors = info.rank == 0 && options_.keep_terminal};
    for (char** entry = environ; *entry != nullptr; ++entry) start.environment.emplace_back(*entry);
    for (const auto& added : {options_.variables, launch_variables(info)}) {
      for (const std::string& variable : added) {
        const std::string name = variable.substr(0, variable.find('=') + 1);
        std::erase_if(start.environment, [&](const std::string& old) { return old.starts_with(name); });
        start.environment.push_back(variable);
      }
    }
    ranks_.push_back(std::make_unique<RankProcess>(info.rank, start));
  }
}

bool Attempt::running() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank->running(); });
}

/// The terminal wants this process to stop: the ranks stop with it, so that nobody is taken for dead.
void Attempt::stop_all() {
  for (const auto& rank : ranks_) rank->send_signal(SIGSTOP);
  ::raise(SIGSTOP);
  for (const auto& rank : ranks_) rank->send_signal(SIGCONT);
}

void Attempt::handle_signals() {
  while (const int number = signals_.next()) {
    if (number == SIGCHLD) {
      for (const auto& rank : ranks_) rank->reap();
    } else if (number == SIGTSTP) {
      stop_all();
    } else {
      outcome_.stopped = true;
      for (const auto& rank : ranks_) {
        if (rank->running()) rank->send_signal(number);
      }
    }
  }
}

void Attempt::wait_for_events() const {
  std::vector<pollfd> entries = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0}};
  for (const auto& rank : ranks_) {
    for (const int fd : rank->descriptors()) entries.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  }
  ::poll(entries.data(), entries.size(), static_cast<int>(kTick.count()));
}

void Attempt::note_failure(int rank, const std::string& message, int code) {
  if (failed_at_) return;
  failed_at_ = std::chrono::steady_clock::now();
  first_failed_ = rank;
  outcome_.result = {code, message};
}

const RankProcess* Attempt::process_of(int rank) const {
  const int local_rank = rank - options_.node_rank * processes_;
  return local_rank < 0 || local_rank >= processes_ ? nullptr : ranks_[static_cast<size_t>(local_rank)].get();
}

std::string Attempt::end_of(const RankProcess& process) const {
  const std::string name = concat("rank ", process.rank());
  const std::string place = store_ == nullptr ? "" : store_->describe(process.rank()).substr(name.size());
  return concat(name, " failed first: ", describe_wait_status(process.wait_status()), place);
}

/// The failure that the store knows of. That a process has ended is heard a moment after its connection has closed.
void Attempt::look_at_store(const JobFailure& failure) {
  if (!told_at_) told_at_ = std::chrono::steady_clock::now();
  const RankProcess* process = process_of(failure.rank);
  const bool ended = process != nullptr && !process->running();
  const bool died = failure.kind == JobFailure::Kind::died;
  if (died && process != nullptr && !ended && std::chrono::steady_clock::now() - *told_at_ < kReapTime) return;
  note_failure(failure.rank, died && ended ? end_of(*process) : failure.message, 1);
  if (ended && first_failed_ == failure.rank && exit_code(*process) != 0) outcome_.result.code = exit_code(*process);
}

void Attempt::look_for_failures() {
  // What the store says comes first: a rank that ends because of another one's failure ends later than that one.
  if (const auto failure = store_ == nullptr ? nullptr : store_->failure()) look_at_store(*failure);
  for (const auto& rank : ranks_) {
    if (rank->running() || !counted_.insert(rank->rank()).second || exit_code(*rank) == 0) continue;
    if (store_ != nullptr) {
      store_->declare_failure(rank->rank(), "ended: " + describe_wait_status(rank->wait_status()));
      if (store_->failure()->rank != rank->rank()) continue;
    }
    note_failure(rank->rank(), end_of(*rank), exit_code(*rank));
  }
}

/// Nobody waits for a rank that hangs once the others have left.
bool Attempt::only_the_hung_remain() const {
  const auto failure = store_ == nullptr ? nullptr : store_->failure();
  if (failure == nullptr || failure->kind != JobFailure::Kind::silent) return false;
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [&](const auto& rank) { return !rank->running() || rank->rank() == failure->rank; });
}

/// The ranks on other hosts need the store until they have left.
void Attempt::wait_for_other_nodes() {
  if (store_ == nullptr || options_.nodes == 1) return;
  const Time begin = std::chrono::steady_clock::now();
  while (!store_->wait_until_left(kTick)) {
    const bool failed = store_->failure() != nullptr;
    if (failed && std::chrono::steady_clock::now() - failed_at_.value_or(begin) > options_.leave_time) return;
    if (failed) look_for_failures();
  }
}

Attempt::Outcome Attempt::run() {
  start_store();
  start_processes();
  while (running()) {
    wait_for_events();
    handle_signals();
    for (const auto& rank : ranks_) {
      rank->reap();
      rank->read_lines(options_.on_line);
    }
    look_for_failures();
    if (!failed_at_) continue;
    const bool in_time = std::chrono::steady_clock::now() - *failed_at_ <= options_.leave_time;
    if (in_time && !only_the_hung_remain()) continue;
    for (const auto& rank : ranks_) {
      if (!rank->running() || !killed_.insert(rank->rank()).second) continue;
      options_.on_notice(concat("rank ", rank->rank(), " does not leave and is killed"));
      rank->send_signal(SIGKILL);
    }
  }
  for (const auto& rank : ranks_) rank->read_lines(options_.on_line);
  look_for_failures();
  wait_for_other_nodes();
  for (const auto& rank : ranks_) {
    const bool lost = WIFSIGNALED(rank->wait_status()) && !killed_.contains(rank->rank());
    const bool hung = rank->rank() == first_failed_ && killed_.contains(rank->rank());
    outcome_.lost += lost || hung;
  }
  return outcome_;
}

}  // namespace

LaunchResult Launcher::run() {
  const Signals signals;
  int processes = options_.processes;
  for (int attempt = 0;; ++attempt) {
    const Attempt::Outcome outcome = Attempt(options_, signals, processes, attempt).run();
    const LaunchResult& result = outcome.result;
    if (result.failure.empty() || outcome.stopped || result.code == kUsageCode || attempt == options_.restarts) {
      return result;
    }
    processes -= outcome.lost;
    if (processes == 0) return result;
    options_.on_notice(concat(result.failure, "; starting again with ", processes, " of ", options_.processes,
                              " processes (restart ", attempt + 1, " of ", options_.restarts, ")"));
  }
}

}  // namespace ondol
