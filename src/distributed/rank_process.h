// One process of a launched job and the pipes by which it speaks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "distributed/store_socket.h"

namespace ondol {

class RankProcess {
 public:
  struct Start {
    std::string program;
    std::vector<std::string> arguments, environment;
    bool own_output = false;  // standard output stays that of this process
    bool own_errors = false;
  };

  /// Starts it in a process group of its own; it is killed when the calling thread ends. Throws Error.
  RankProcess(int rank, const Start& start);
  /// Kills what is left of the group.
  ~RankProcess();
  RankProcess(RankProcess&&) = delete;

  int rank() const { return rank_; }
  pid_t pid() const { return pid_; }
  bool running() const { return running_; }
  int wait_status() const { return wait_status_; }

  /// To all processes of the group.
  void send_signal(int number) const;
  /// Notes the end, if it has come.
  void reap();
  /// The pipes that are open, to be waited for.
  std::vector<int> descriptors() const;
  /// Hands out the whole lines that have come; what stands unfinished only once the pipe has closed.
  void read_lines(const std::function<void(int rank, const std::string& line)>& on_line);

 private:
  struct Stream {
    Socket pipe;
    std::string unfinished;
  };

  int rank_;
  pid_t pid_ = -1;
  bool running_ = false;
  int wait_status_ = 0;
  std::vector<Stream> streams_;
};

/// "exit code 2", "killed by signal 9 (Killed)".
std::string describe_wait_status(int wait_status);

}  // namespace ondol
