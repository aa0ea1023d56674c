// A connection to the store as requests and replies; TcpStore and Job are made of it.
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "distributed/store_messages.h"
#include "distributed/store_socket.h"
#include "distributed/wire.h"

namespace ondol {

class StoreClient {
 public:
  /// As TcpStore's constructor.
  StoreClient(const std::string& address, int port, const std::string& secret, std::chrono::milliseconds timeout);

  /// `what` names the request in errors: `get of "key"`. The server is given time to answer beyond `wait`, the time for
  /// which it may let the request wait for others. Throws Error for everything but StatusCode::ok; after that of the
  /// connection itself, every call does.
  StoreReply call(StoreRequest request, const std::string& what, std::chrono::milliseconds wait);

  /// The same without judging the reply.
  StoreReply exchange(StoreRequest request, const std::string& what, std::chrono::milliseconds wait);

  void interrupt(const std::string& reason);
  /// Whom it is connected to, "127.0.0.1:4000".
  const std::string& place() const { return place_; }
  /// How long the server itself may take for an answer (15 seconds).
  void set_patience(std::chrono::milliseconds patience) { patience_ = patience; }

 private:
  std::string receive_frame(SocketDeadline deadline);
  void shake_hands(const std::string& secret, SocketDeadline deadline);
  void check_usable();
  [[noreturn]] void break_off(const std::string& reason);

  std::string place_;
  std::chrono::milliseconds patience_;
  std::mutex call_mutex_;  // one request at a time
  Socket socket_;
  FrameReader frames_{kMaxHandshake};
  uint64_t last_id_ = 0;
  std::mutex reason_mutex_;
  std::string broken_;       // why the connection cannot be used any more
  std::string interrupted_;  // by interrupt()
};

}  // namespace ondol
