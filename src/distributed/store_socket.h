// Sockets of the store: none of the calls blocks beyond its deadline, and a peer that has vanished without a word is
// noticed by the system's own probes.
//
//   Socket socket = connect_socket("host", 4000, deadline);
//   socket.send_all(bytes, deadline);
//   size_t got = socket.receive(buffer, sizeof buffer, deadline);   // 0: the other end has closed
#pragma once

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ondol {

using SocketDeadline = std::chrono::steady_clock::time_point;

/// Nothing came in time.
struct SocketTimeout : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A file descriptor with an owner.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket();
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int fd() const { return fd_; }
  /// Throws SocketTimeout, or Error with the system's reason.
  void send_all(std::string_view bytes, SocketDeadline deadline) const;
  size_t receive(char* data, size_t size, SocketDeadline deadline) const;
  /// Wakes whoever waits in it.
  void shut_down() const;

 private:
  int fd_ = -1;
};

/// Tries all addresses of the host again and again until one accepts. Throws SocketTimeout with the last reason, Error
/// when the name means nothing.
Socket connect_socket(const std::string& host, int port, SocketDeadline deadline);

/// Listening, non-blocking sockets for all addresses of this host (or of itself only), IPv4 and IPv6 where there is
/// such. `port` becomes the one that was found when it is 0. Throws Error.
std::vector<Socket> listen_sockets(int& port, bool loopback_only);

/// Small messages go out at once; dead peers are noticed within about 30 seconds.
void prepare_connection(int fd);

std::string system_error_text(int error);

/// The name of this machine.
std::string host_name();

}  // namespace ondol
