// The sockets of the store: one thread serves all connections; what they say is dealt with by StoreState.
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ondol/base/error.h>
#include <ondol/distributed/store.h>

#include "distributed/sha256.h"
#include "distributed/store_socket.h"
#include "distributed/store_state.h"
#include "distributed/wire.h"

namespace ondol {

namespace {

constexpr std::chrono::milliseconds kTick{200};
constexpr std::chrono::milliseconds kHandshakeTime{5000};
constexpr size_t kMaxStrangers = 256;  // connections that have not proved themselves yet
constexpr size_t kMaxUnsent = 2 * kMaxStoreReply;
constexpr size_t kReceiveBytes = size_t{64} << 10;

struct Connection {
  Socket socket;
  FrameReader frames{kMaxHandshake};
  std::string unsent;
  std::string nonce;
  bool trusted = false;
  bool waits_for_room = false;  // to send
  StoreTime opened;
};

}  // namespace

struct StoreServer::Impl {
  explicit Impl(const StoreServerOptions& server_options);
  ~Impl();

  void run();
  void watch(int fd, ConnectionId id, uint32_t events, int operation = EPOLL_CTL_ADD);
  void accept_from(const Socket& listener, StoreTime now);
  void limit_strangers(StoreTime now);
  bool receive(ConnectionId id, Connection& connection, StoreTime now);
  bool handle_frame(ConnectionId id, Connection& connection, const std::string& payload, StoreTime now);
  bool send(ConnectionId id, Connection& connection, std::string_view bytes);
  void drop(ConnectionId id);
  void send_replies();
  void serve(ConnectionId id, uint32_t events, StoreTime now);
  void wake() const;

  StoreServerOptions options;
  int port;
  std::vector<Socket>
      listeners;  // their numbers in the event queue come first, then the waking event, then connections
  Socket queue, waking;
  ConnectionId next_id = 0;
  std::map<ConnectionId, Connection> connections;
  std::atomic<bool> stopping{false};
  mutable std::mutex mutex;  // of `state`, which is asked by other threads too
  StoreState state;
  std::thread thread;
};

StoreServer::Impl::Impl(const StoreServerOptions& server_options)
    : options(server_options), port(options.port), state(options.limits) {
  listeners = listen_sockets(port, options.loopback_only);
  queue = Socket(::epoll_create1(EPOLL_CLOEXEC));
  waking = Socket(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ONDOL_CHECK(queue.fd() >= 0 && waking.fd() >= 0, "cannot start the store: ", system_error_text(errno));
  for (const Socket& listener : listeners) watch(listener.fd(), next_id++, EPOLLIN);
  watch(waking.fd(), next_id++, EPOLLIN);
  thread = std::thread([this] { run(); });
}

StoreServer::Impl::~Impl() {
  stopping = true;
  wake();
  thread.join();
}

void StoreServer::Impl::wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(waking.fd(), &one, sizeof one);
}

void StoreServer::Impl::watch(int fd, ConnectionId id, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  ONDOL_CHECK(::epoll_ctl(queue.fd(), operation, fd, &event) == 0,
              "cannot watch a connection: ", system_error_text(errno));
}

void StoreServer::Impl::accept_from(const Socket& listener, StoreTime now) {
  for (;;) {
    Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.fd() < 0) {
      // Out of descriptors: whoever waits is served when others have gone; until then, do not spin.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      return;
    }
    prepare_connection(socket.fd());
    const ConnectionId id = next_id++;
    watch(socket.fd(), id, EPOLLIN);
    Connection& connection = connections[id];
    connection.socket = std::move(socket);
    connection.nonce = random_bytes(kNonceBytes);
    connection.opened = now;
    if (!send(id, connection, framed(encode_greeting(connection.nonce)))) drop(id);
    limit_strangers(now);
  }
}

void StoreServer::Impl::limit_strangers(StoreTime now) {
  std::vector<ConnectionId> strangers;  // the oldest first
  for (const auto& [id, connection] : connections) {
    if (!connection.trusted) strangers.push_back(id);
  }
  for (size_t i = 0; i < strangers.size(); ++i) {
    const bool too_many = strangers.size() - i > kMaxStrangers;
    if (too_many || now - connections[strangers[i]].opened > kHandshakeTime) drop(strangers[i]);
  }
}

/// False when the connection is to be dropped.
bool StoreServer::Impl::send(ConnectionId id, Connection& connection, std::string_view bytes) {
  connection.unsent += bytes;
  if (connection.unsent.size() > kMaxUnsent) return false;
  size_t sent = 0;
  while (sent < connection.unsent.size()) {
    const ssize_t count =
        ::send(connection.socket.fd(), connection.unsent.data() + sent, connection.unsent.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return false;
    sent += static_cast<size_t>(count);
  }
  connection.unsent.erase(0, sent);
  if (connection.waits_for_room == connection.unsent.empty()) {
    connection.waits_for_room = !connection.unsent.empty();
    const uint32_t events = EPOLLIN | (connection.waits_for_room ? EPOLLOUT : 0u);
    watch(connection.socket.fd(), id, events, EPOLL_CTL_MOD);
  }
  return true;
}

bool StoreServer::Impl::handle_frame(ConnectionId id, Connection& connection, const std::string& payload,
                                     StoreTime now) {
  if (connection.trusted) {
    const StoreRequest request = decode_request(payload);
    const std::lock_guard lock(mutex);
    state.handle(id, request, now);
    return true;
  }
  std::string client_nonce;
  if (!check_client_proof(payload, options.secret, connection.nonce, client_nonce)) return false;
  connection.trusted = true;
  connection.frames.set_max_payload(kMaxStoreRequest);
  return send(id, connection, framed(encode_server_proof(options.secret, connection.nonce, client_nonce)));
}

bool StoreServer::Impl::receive(ConnectionId id, Connection& connection, StoreTime now) {
  char buffer[kReceiveBytes];
  const ssize_t got = ::recv(connection.socket.fd(), buffer, sizeof buffer, 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  connection.frames.append({buffer, static_cast<size_t>(got)});
  while (auto payload = connection.frames.next()) {
    if (!handle_frame(id, connection, *payload, now)) return false;
  }
  return true;
}

void StoreServer::Impl::drop(ConnectionId id) {
  connections.erase(id);
  const std::lock_guard lock(mutex);
  state.closed(id);
}

void StoreServer::Impl::send_replies() {
  std::vector<std::pair<ConnectionId, StoreReply>> replies;
  do {
    {
      const std::lock_guard lock(mutex);
      replies = state.take_replies();
    }
    for (const auto& [id, reply] : replies) {
      const auto found = connections.find(id);
      if (found != connections.end() && !send(id, found->second, framed(encode_reply(reply)))) drop(id);
    }
  } while (!replies.empty());  // what is dropped may give others an answer
}

void StoreServer::Impl::serve(ConnectionId id, uint32_t events, StoreTime now) {
  if (id < listeners.size()) return accept_from(listeners[id], now);
  if (id == listeners.size()) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(waking.fd(), &count, sizeof count);
    return;
  }
  const auto found = connections.find(id);
  if (found == connections.end()) return;
  bool keep = true;
  try {
    if ((events & EPOLLOUT) != 0) keep = send(id, found->second, "");
    if (keep && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) keep = receive(id, found->second, now);
  } catch (const std::exception&) {  // bytes that are no message, or no memory for them
    keep = false;
  }
  if (!keep) drop(id);
}

void StoreServer::Impl::run() {
  std::vector<epoll_event> events(256);
  StoreTime ticked;
  while (!stopping) {
    const int count =
        ::epoll_wait(queue.fd(), events.data(), static_cast<int>(events.size()), static_cast<int>(kTick.count()));
    const StoreTime now = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i)
      serve(events[static_cast<size_t>(i)].data.u64, events[static_cast<size_t>(i)].events, now);
    if (now - ticked >= kTick) {
      ticked = now;
      limit_strangers(now);
      const std::lock_guard lock(mutex);
      state.tick(now);
    }
    send_replies();
  }
}

StoreServer::StoreServer(const StoreServerOptions& options) : impl_(std::make_unique<Impl>(options)) {}

StoreServer::~StoreServer() = default;

int StoreServer::port() const { return impl_->port; }

std::shared_ptr<const JobFailure> StoreServer::failure() const {
  const std::lock_guard lock(impl_->mutex);
  const JobFailure* failure = impl_->state.members().failure();
  return failure == nullptr ? nullptr : std::make_shared<const JobFailure>(*failure);
}

std::string StoreServer::describe(int rank) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->state.members().describe(rank);
}

void StoreServer::declare_failure(int rank, const std::string& why) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->state.declare_failure(rank, why);
  }
  impl_->wake();
}

bool StoreServer::wait_until_left(std::chrono::milliseconds timeout) const {
  const StoreTime deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    {
      const std::lock_guard lock(impl_->mutex);
      if (impl_->state.members().all_left()) return true;
    }
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace ondol
