// Messages over TCP connections, with signs of life and failures on connections of their own.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "distributed/message_communicator.h"
#include "distributed/tcp_mesh.h"

namespace ondol {

namespace {

using Clock = std::chrono::steady_clock;

/// Those who wait look around that often.
constexpr auto kSlice = std::chrono::milliseconds(20);
/// What is said on control connections. A failure is followed by its length (4 bytes) and text.
constexpr char kAlive = 'a', kLeaving = 'l', kFailed = 'f';
constexpr size_t kMaxFailureBytes = 4096;

/// How far a message has got: its header, then its places.
struct Transfer {
  int peer = -1;
  MessageHeader header;
  std::vector<iovec> rest;  // what is left, header included
  size_t next = 0;
  uint64_t expected = 0;
  bool checked = false;

  bool done() const { return next == rest.size(); }
  void advance(size_t bytes) {
    while (next < rest.size() && bytes >= rest[next].iov_len) bytes -= rest[next++].iov_len;
    if (next == rest.size()) return;
    rest[next].iov_base = static_cast<char*>(rest[next].iov_base) + bytes;
    rest[next].iov_len -= bytes;
  }
};

class TcpCommunicator final : public MessageCommunicator {
 public:
  explicit TcpCommunicator(const CommMembers& members)
      : MessageCommunicator(members),
        peers_(connect_tcp_mesh(members)),
        states_(peers_.size(), State{{}, Patience(options().silence_timeout)}) {
    open();
  }
  ~TcpCommunicator() override { close(); }

  CommTransport transport() const override { return CommTransport::tcp; }

 private:
  struct State {
    std::string heard;  // what has come on the control connection and is not understood yet
    Patience silence;
    bool left = false;
    bool closed = false;
  };

  // ---- signs of life ----

  void say(int peer, const std::string& text) noexcept {
    const std::lock_guard lock(control_mutex_);
    // Nobody can fall so far behind on so few bytes that they would not fit; if they do not, the next ones will be
    // missed.
    (void)::send(peers_[static_cast<size_t>(peer)].control.get(), text.data(), text.size(),
                 MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void tell_failure(const std::string& text) noexcept override {
    const uint32_t length = static_cast<uint32_t>(std::min(text.size(), kMaxFailureBytes));
    std::string message(1, kFailed);
    message.append(reinterpret_cast<const char*>(&length), sizeof(length));
    message.append(text, 0, length);
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) say(r, message);
    }
  }

  void sign_of_life() noexcept override {
    for (int r = 0; r < size(); ++r) {
      State& state = states_[static_cast<size_t>(r)];
      if (r == rank() || state.left || state.closed) continue;
      listen_to(r);
      if (!state.left && !state.closed) say(r, std::string(1, kAlive));
      if (state.closed && !state.left) {
        fail(waiting_for(concat("rank ", world_rank(r), " has died")), true);
      } else if (!state.left && state.silence.over()) {
        fail(waiting_for(concat("rank ", world_rank(r), " gives no sign of life for ",
                                std::chrono::duration<double>(options().silence_timeout).count(), " s")),
             true);
      }
    }
  }

  /// Reads what a rank has said on its control connection.
  void listen_to(int peer) noexcept {
    State& state = states_[static_cast<size_t>(peer)];
    char buffer[512];
    for (;;) {
      const ssize_t n = ::recv(peers_[static_cast<size_t>(peer)].control.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (n > 0) {
        state.heard.append(buffer, static_cast<size_t>(n));
        state.silence = Patience(options().silence_timeout);
        continue;
      }
      if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) state.closed = true;
      if (n == 0 || errno != EINTR) break;
    }
    size_t at = 0;
    while (at < state.heard.size()) {
      if (state.heard[at] == kFailed) {
        uint32_t length = 0;
        if (state.heard.size() - at < 1 + sizeof(length)) break;
        std::memcpy(&length, state.heard.data() + at + 1, sizeof(length));
        length = std::min<uint32_t>(length, kMaxFailureBytes);
        if (state.heard.size() - at < 1 + sizeof(length) + length) break;
        fail(state.heard.substr(at + 1 + sizeof(length), length), false);
        at += sizeof(length) + length;
      } else if (state.heard[at] == kLeaving) {
        state.left = true;
      }
      ++at;
    }
    state.heard.erase(0, at);
  }

  /// A connection that is closed with bytes unread makes the system throw away what the other side has not read yet,
  /// the farewell for instance: what still comes is read for a moment.
  void farewell() noexcept override {
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) say(r, std::string(1, kLeaving));
    }
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) shutdown(peers_[static_cast<size_t>(r)].control.get(), SHUT_WR);
    }
    const Clock::time_point end = Clock::now() + std::chrono::milliseconds(failed() ? 500 : 100);
    for (int r = 0; r < size(); ++r) {
      State& state = states_[static_cast<size_t>(r)];
      while (r != rank() && !state.closed && Clock::now() < end) {
        pollfd one{peers_[static_cast<size_t>(r)].control.get(), POLLIN, 0};
        poll(&one, 1, 5);
        listen_to(r);
      }
    }
  }

  /// The data connection of a rank has ended: why?
  [[noreturn]] void lost(int peer) {
    State& state = states_[static_cast<size_t>(peer)];
    const Clock::time_point end = Clock::now() + std::chrono::seconds(1);
    while (!state.closed && !state.left && Clock::now() < end) {
      pollfd one{peers_[static_cast<size_t>(peer)].control.get(), POLLIN, 0};
      poll(&one, 1, 10);
      listen_to(peer);
      check_failed();
    }
    check_failed();
    throw Error(waiting_for(concat("rank ", world_rank(peer), state.left ? " has left" : " has died")));
  }

  // ---- messages ----

  void exchange(const std::vector<Message>& outgoing, const std::vector<Message>& incoming) override {
    sends_.clear();
    receives_.clear();
    for (const Message& message : outgoing) sends_.push_back(transfer(message));
    for (const Message& message : incoming) receives_.push_back(transfer(message));
    // The vectors do not grow any more: the headers have their places.
    for (std::vector<Transfer>* transfers : {&sends_, &receives_}) {
      for (Transfer& t : *transfers) t.rest[0] = {&t.header, sizeof(t.header)};
    }
    Patience patience(options().collective_timeout);
    Clock::time_point looked = Clock::now();
    for (;;) {
      bool progress = false, done = true;
      for (Transfer& t : sends_) {
        if (!t.done()) progress |= push(t);
        done &= t.done();
      }
      for (Transfer& t : receives_) {
        if (!t.done()) progress |= pull(t);
        done &= t.done();
      }
      if (done) return;
      const Clock::time_point before = Clock::now();
      if (!progress) sleep_until_ready();
      const Clock::time_point now = Clock::now();
      add_late(awaited(), std::chrono::duration<double>(now - before).count());
      if (now - looked < kSlice) continue;
      looked = now;
      look_around(awaited(), patience);
    }
  }

  Transfer transfer(const Message& message) {
    Transfer t{.peer = message.peer, .header = {.mark = current()}};
    t.rest.push_back({});
    for (const Bytes& place : message.places) {
      if (place.size > 0) t.rest.push_back({place.data, place.size});
      t.header.bytes += place.size;
    }
    t.expected = t.header.bytes;
    return t;
  }

  bool push(Transfer& t) {
    msghdr message{};
    message.msg_iov = t.rest.data() + t.next;
    message.msg_iovlen = std::min<size_t>(t.rest.size() - t.next, IOV_MAX);
    const ssize_t n = sendmsg(peers_[static_cast<size_t>(t.peer)].data.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) lost(t.peer);
    if (n <= 0) return false;
    t.advance(static_cast<size_t>(n));
    return true;
  }

  bool pull(Transfer& t) {
    msghdr message{};
    message.msg_iov = t.rest.data() + t.next;
    message.msg_iovlen = std::min<size_t>(t.rest.size() - t.next, IOV_MAX);
    const ssize_t n = recvmsg(peers_[static_cast<size_t>(t.peer)].data.get(), &message, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) lost(t.peer);
    if (n < 0) return false;
    t.advance(static_cast<size_t>(n));
    if (t.next > 0 && !t.checked) {
      t.checked = true;
      check_header(t.peer, t.header, t.expected);
    }
    return true;
  }

  void sleep_until_ready() {
    polled_.clear();
    for (const Transfer& t : sends_) {
      if (!t.done()) polled_.push_back({peers_[static_cast<size_t>(t.peer)].data.get(), POLLOUT, 0});
    }
    for (const Transfer& t : receives_) {
      if (!t.done()) polled_.push_back({peers_[static_cast<size_t>(t.peer)].data.get(), POLLIN, 0});
    }
    poll(polled_.data(), polled_.size(), static_cast<int>(kSlice.count()));
  }

  /// The first rank that a transfer waits for.
  int awaited() const {
    for (const std::vector<Transfer>* transfers : {&receives_, &sends_}) {
      for (const Transfer& t : *transfers) {
        if (!t.done()) return t.peer;
      }
    }
    return rank();
  }

  std::unique_ptr<Communicator> make_group(const std::vector<int>& members, const std::string& name) override {
    return make_tcp_communicator(group_of(members, name));
  }

  std::vector<TcpPeer> peers_;
  std::vector<State> states_;
  std::mutex control_mutex_;
  std::vector<Transfer> sends_, receives_;
  std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Communicator> make_tcp_communicator(const CommMembers& members) {
  return std::make_unique<TcpCommunicator>(members);
}

}  // namespace ondol
