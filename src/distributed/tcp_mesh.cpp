#include "distributed/tcp_mesh.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ondol {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

std::string system_reason() { return std::strerror(errno); }

/// What a process says when it has connected.
struct Greeting {
  std::array<char, 32> token{};
  int32_t rank = 0;
  int32_t channel = 0;
};

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&bytes); }
  int family() const { return bytes.ss_family; }
};

/// Port 0 is kept as it is.
Address resolve(const std::string& host, const std::string& port, int type) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = type;
  const int status = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  ONDOL_CHECK(status == 0 && found != nullptr, "host \"", host, "\": ", gai_strerror(status));
  Address address;
  std::memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  freeaddrinfo(found);
  return address;
}

/// This host's address on the way to `host`. Nothing is sent.
Address local_address(const std::string& host) {
  Address remote = resolve(host.empty() ? "127.0.0.1" : host, "9", SOCK_DGRAM);
  const Descriptor probe(socket(remote.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ONDOL_CHECK(probe.get() >= 0 && connect(probe.get(), remote.get(), remote.size) == 0, "no way to host \"", host,
              "\": ", system_reason());
  Address local;
  local.size = sizeof(local.bytes);
  ONDOL_CHECK(getsockname(probe.get(), local.get(), &local.size) == 0, "own address: ", system_reason());
  return local;
}

void set_port_zero(Address& address) {
  if (address.family() == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address.bytes)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(&address.bytes)->sin_port = 0;
  }
}

std::string name_of(Address address) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  const int status =
      getnameinfo(address.get(), address.size, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  ONDOL_CHECK(status == 0, "own address: ", gai_strerror(status));
  return concat(host, " ", port);
}

/// The socket and its "host port".
std::pair<Descriptor, std::string> listen_here(const std::string& way, int backlog) {
  Address local = local_address(way);
  set_port_zero(local);
  Descriptor listener(socket(local.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ONDOL_CHECK(listener.get() >= 0 && bind(listener.get(), local.get(), local.size) == 0 &&
                  listen(listener.get(), backlog) == 0 && getsockname(listener.get(), local.get(), &local.size) == 0,
              "listening for the other ranks: ", system_reason());
  return {std::move(listener), name_of(local)};
}

bool wait_ready(int fd, short events, Clock::time_point end) {
  for (;;) {
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now()).count();
    if (left <= 0) return false;
    pollfd one{fd, events, 0};
    const int ready = poll(&one, 1, static_cast<int>(std::min<int64_t>(left, 1000)));
    if (ready > 0) return true;
    ONDOL_CHECK(ready == 0 || errno == EINTR, "poll: ", system_reason());
  }
}

bool read_all(int fd, void* data, size_t bytes, Clock::time_point end) {
  for (size_t done = 0; done < bytes;) {
    if (!wait_ready(fd, POLLIN, end)) return false;
    const ssize_t n = recv(fd, static_cast<char*>(data) + done, bytes - done, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
    if (n > 0) done += static_cast<size_t>(n);
  }
  return true;
}

bool write_all(int fd, const void* data, size_t bytes, Clock::time_point end) {
  for (size_t done = 0; done < bytes;) {
    if (!wait_ready(fd, POLLOUT, end)) return false;
    const ssize_t n = send(fd, static_cast<const char*>(data) + done, bytes - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n > 0) done += static_cast<size_t>(n);
  }
  return true;
}

void without_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/// A connection to "host port"; tries again while nobody listens there.
Descriptor connect_to(const std::string& place, const std::string& who, Clock::time_point end) {
  const size_t space = place.find(' ');
  ONDOL_CHECK(space != std::string::npos, who, " cannot be reached at \"", place, "\"");
  Address address = resolve(place.substr(0, space), place.substr(space + 1), SOCK_STREAM);
  for (;;) {
    Descriptor connection(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ONDOL_CHECK(connection.get() >= 0, "socket: ", system_reason());
    int status = connect(connection.get(), address.get(), address.size) == 0 ? 0 : errno;
    if (status == EINPROGRESS) {
      socklen_t size = sizeof(status);
      if (!wait_ready(connection.get(), POLLOUT, end)) {
        status = ETIMEDOUT;
      } else if (getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &status, &size) != 0) {
        status = errno;
      }
    }
    if (status == 0) {
      without_delay(connection.get());
      return connection;
    }
    ONDOL_CHECK(Clock::now() < end, who, " cannot be reached: ", std::strerror(status), " (", place, ")");
    std::this_thread::sleep_for(Milliseconds(20));
  }
}

std::array<char, 32> new_token() {
  std::random_device random;
  std::array<char, 32> token;
  for (char& c : token) c = "0123456789abcdef"[random() % 16];
  return token;
}

/// All bytes are compared, wherever the first difference is.
bool same_token(const std::array<char, 32>& a, const std::array<char, 32>& b) {
  int difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::vector<TcpPeer> connect_tcp_mesh(const CommMembers& members) {
  const int size = static_cast<int>(members.world_ranks.size()), rank = members.rank;
  const auto who = [&](int r) { return concat("rank ", members.world_ranks[static_cast<size_t>(r)]); };
  const Milliseconds timeout = members.options.connect_timeout;
  const Clock::time_point end = Clock::now() + timeout;
  const std::string prefix = members.options.name + "/tcp/";
  Rendezvous& meeting = *members.rendezvous;

  Greeting mine{.rank = rank};
  if (rank == 0) {
    mine.token = new_token();
    meeting.set(prefix + "token", std::string(mine.token.begin(), mine.token.end()));
  } else {
    const std::string token = meeting.get(prefix + "token", timeout);
    ONDOL_CHECK(token.size() == mine.token.size(), "rank 0 has left a token of ", token.size(), " bytes");
    std::copy(token.begin(), token.end(), mine.token.begin());
  }
  const auto [listener, place] = listen_here(members.host_address, 2 * size);
  meeting.set(concat(prefix, rank), place);

  // Every rank connects to those below it and is called by those above.
  std::vector<TcpPeer> peers(static_cast<size_t>(size));
  for (int r = 0; r < rank; ++r) {
    const std::string there = meeting.get(concat(prefix, r), timeout);
    for (mine.channel = 0; mine.channel < 2; ++mine.channel) {
      Descriptor connection = connect_to(there, who(r), end);
      ONDOL_CHECK(write_all(connection.get(), &mine, sizeof(mine), end), who(r), " does not listen (", there, ")");
      TcpPeer& peer = peers[static_cast<size_t>(r)];
      (mine.channel == 0 ? peer.data : peer.control) = std::move(connection);
    }
  }
  for (int missing = 2 * (size - 1 - rank); missing > 0;) {
    if (!wait_ready(listener.get(), POLLIN, end)) {
      std::string names;
      for (int r = rank + 1; r < size; ++r) {
        const TcpPeer& peer = peers[static_cast<size_t>(r)];
        if (peer.data.get() < 0 || peer.control.get() < 0) names += (names.empty() ? "" : ", ") + who(r);
      }
      throw_error(names, " did not connect to ", who(rank), " within ", timeout.count(), " ms (", place, ")");
    }
    Descriptor connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.get() < 0) continue;
    Greeting theirs;
    const Clock::time_point patience = std::min(end, Clock::now() + std::chrono::seconds(2));
    if (!read_all(connection.get(), &theirs, sizeof(theirs), patience)) continue;
    if (!same_token(theirs.token, mine.token)) continue;
    if (theirs.rank <= rank || theirs.rank >= size || theirs.channel < 0 || theirs.channel > 1) continue;
    TcpPeer& peer = peers[static_cast<size_t>(theirs.rank)];
    Descriptor& channel = theirs.channel == 0 ? peer.data : peer.control;
    if (channel.get() >= 0) continue;
    without_delay(connection.get());
    channel = std::move(connection);
    --missing;
  }
  return peers;
}

}  // namespace ondol
