#include "distributed/store_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

constexpr std::chrono::milliseconds kRetryPause{100};
constexpr int kBacklog = 1024;

/// False when the deadline has passed; what is there already counts even then (this process may have been stopped).
bool wait_for(int fd, short events, SocketDeadline deadline) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int timeout = static_cast<int>(std::clamp<int64_t>(left.count() + 1, 0, 1 << 30));
    const int ready = ::poll(&entry, 1, left.count() < 0 ? 0 : timeout);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) throw_error("cannot wait for a connection: ", system_error_text(errno));
  }
}

Addresses resolve(const char* host, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
  if (error == EAI_AGAIN) throw SocketTimeout(concat("cannot find host ", host, ": ", ::gai_strerror(error)));
  ONDOL_CHECK(error == 0, "cannot find host ", host, ": ", ::gai_strerror(error));
  return {found, ::freeaddrinfo};
}

/// Without a listener, a connection to a port of this host may be given that very port at its own end.
bool meets_itself(int fd) {
  sockaddr_storage here{}, there{};
  socklen_t size = sizeof here, peer_size = sizeof there;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &peer_size) == 0 && size == peer_size &&
         std::memcmp(&here, &there, size) == 0;
}

/// Connects to one address; the reason when that fails.
std::string try_address(const addrinfo& address, SocketDeadline deadline, Socket& connected) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return system_error_text(errno);
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return system_error_text(errno);
    if (!wait_for(socket.fd(), POLLOUT, deadline)) return "no answer";
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return system_error_text(error);
  }
  if (meets_itself(socket.fd())) return system_error_text(ECONNREFUSED);
  connected = std::move(socket);
  return "";
}

}  // namespace

std::string system_error_text(int error) { return std::system_category().message(error); }

std::string host_name() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "unknown";
  return name;
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

void Socket::shut_down() const {
  if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
}

void Socket::send_all(std::string_view bytes, SocketDeadline deadline) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd_, POLLOUT, deadline)) throw SocketTimeout("no answer");
    } else if (errno != EINTR) {
      throw Error(system_error_text(errno));
    }
  }
}

size_t Socket::receive(char* data, size_t size, SocketDeadline deadline) const {
  for (;;) {
    const ssize_t got = ::recv(fd_, data, size, 0);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno == EAGAIN) {
      if (!wait_for(fd_, POLLIN, deadline)) throw SocketTimeout("no answer");
    } else if (errno != EINTR) {
      throw Error(system_error_text(errno));
    }
  }
}

void prepare_connection(int fd) {
  const auto set = [fd](int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
}

Socket connect_socket(const std::string& host, int port, SocketDeadline deadline) {
  std::string why = "no address";
  for (;;) {
    try {
      const Addresses addresses = resolve(host.c_str(), port, 0);
      for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
        Socket socket;
        why = try_address(*address, deadline, socket);
        if (socket.fd() < 0) continue;
        prepare_connection(socket.fd());
        return socket;
      }
    } catch (const SocketTimeout& error) {
      why = error.what();
    }
    if (std::chrono::steady_clock::now() + kRetryPause >= deadline) throw SocketTimeout(why);
    std::this_thread::sleep_for(kRetryPause);
  }
}

namespace {

/// None when the port is taken.
std::vector<Socket> listen_once(int& port, bool loopback_only) {
  const Addresses addresses = resolve(nullptr, port, loopback_only ? 0 : AI_PASSIVE);
  std::vector<Socket> sockets;
  int error = 0;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Socket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    sockaddr_storage name{};
    std::memcpy(&name, address->ai_addr, address->ai_addrlen);
    // The port of an IPv6 address is where that of an IPv4 address is.
    reinterpret_cast<sockaddr_in*>(&name)->sin_port = htons(static_cast<uint16_t>(port));
    if (socket.fd() < 0) continue;
    ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6) ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&name), address->ai_addrlen) != 0 ||
        ::listen(socket.fd(), kBacklog) != 0) {
      error = errno;
      // A port that one family has and the other does not would be met by some clients only.
      if (error == EADDRINUSE) return {};
      continue;
    }
    socklen_t size = sizeof name;
    ::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&name), &size);
    port = ntohs(reinterpret_cast<const sockaddr_in*>(&name)->sin_port);
    sockets.push_back(std::move(socket));
  }
  ONDOL_CHECK(!sockets.empty(), "cannot listen to port ", port, ": ", system_error_text(error));
  return sockets;
}

}  // namespace

std::vector<Socket> listen_sockets(int& port, bool loopback_only) {
  const int wanted = port;
  for (int attempt = 0; attempt < (wanted == 0 ? 32 : 1); ++attempt) {
    port = wanted;
    std::vector<Socket> sockets = listen_once(port, loopback_only);
    if (!sockets.empty()) return sockets;
  }
  throw_error("cannot listen to port ", wanted, ": ", system_error_text(EADDRINUSE));
}

}  // namespace ondol
