#include "distributed/rank_process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr size_t kMaxLine = size_t{64} << 10;
constexpr int kExecFailed = 127;

struct Pipe {
  Socket read, write;
};

Pipe make_pipe() {
  int ends[2];
  ONDOL_CHECK(::pipe2(ends, O_CLOEXEC) == 0, "cannot start a process: ", system_error_text(errno));
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return {Socket(ends[0]), Socket(ends[1])};
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

}  // namespace

RankProcess::RankProcess(int rank, const Start& start) : rank_(rank) {
  std::vector<std::string> arguments = {start.program};
  arguments.insert(arguments.end(), start.arguments.begin(), start.arguments.end());
  const std::vector<char*> argv = pointers(arguments), environment = pointers(start.environment);
  Pipe output = make_pipe(), errors = make_pipe();
  const Socket nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const pid_t launcher = ::getpid();

  pid_ = ::fork();
  ONDOL_CHECK(pid_ >= 0, "cannot start a process: ", system_error_text(errno));
  if (pid_ == 0) {  // only what is safe between fork and exec in a process with threads
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != launcher) ::_exit(1);  // it ended before the line above
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(nothing.fd(), STDIN_FILENO);
    if (!start.own_output) ::dup2(output.write.fd(), STDOUT_FILENO);
    if (!start.own_errors) ::dup2(errors.write.fd(), STDERR_FILENO);
    ::execve(argv[0], argv.data(), environment.data());
    constexpr char kMessage[] = "error: cannot run the program\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
    ::_exit(kExecFailed);
  }
  ::setpgid(pid_, pid_);  // here as well: a signal may have to be passed on before the child gets there
  running_ = true;
  if (!start.own_output) streams_.push_back({std::move(output.read), ""});
  if (!start.own_errors) streams_.push_back({std::move(errors.read), ""});
}

RankProcess::~RankProcess() {
  if (!running_) return;
  send_signal(SIGKILL);
  ::waitpid(pid_, &wait_status_, 0);
}

void RankProcess::send_signal(int number) const { ::kill(-pid_, number); }

void RankProcess::reap() {
  siginfo_t info{};
  if (!running_ || ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) return;
  if (info.si_pid != pid_) return;
  send_signal(SIGKILL);  // what it has started and left behind, as long as its number cannot belong to another
  ::waitpid(pid_, &wait_status_, 0);
  running_ = false;
}

std::vector<int> RankProcess::descriptors() const {
  std::vector<int> all;
  for (const Stream& stream : streams_) all.push_back(stream.pipe.fd());
  return all;
}

void RankProcess::read_lines(const std::function<void(int rank, const std::string& line)>& on_line) {
  for (Stream& stream : streams_) {
    char buffer[4096];
    ssize_t got = 0;
    while ((got = ::read(stream.pipe.fd(), buffer, sizeof buffer)) > 0) {
      stream.unfinished.append(buffer, static_cast<size_t>(got));
      size_t begin = 0;
      for (size_t end; (end = stream.unfinished.find('\n', begin)) != std::string::npos; begin = end + 1) {
        on_line(rank_, stream.unfinished.substr(begin, end - begin));
      }
      stream.unfinished.erase(0, begin);
      if (stream.unfinished.size() > kMaxLine) on_line(rank_, std::exchange(stream.unfinished, ""));
    }
    const bool ended = got == 0 || (errno != EAGAIN && errno != EINTR);
    if (!ended) continue;
    if (!stream.unfinished.empty()) on_line(rank_, std::exchange(stream.unfinished, ""));
    stream.pipe = Socket();
  }
  std::erase_if(streams_, [](const Stream& stream) { return stream.pipe.fd() < 0; });
}

std::string describe_wait_status(int wait_status) {
  if (WIFEXITED(wait_status)) return concat("exit code ", WEXITSTATUS(wait_status));
  return concat("killed by signal ", WTERMSIG(wait_status), " (", ::strsignal(WTERMSIG(wait_status)), ")");
}

}  // namespace ondol
