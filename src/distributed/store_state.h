// What the store's server knows, and how it answers; no sockets and no clock.
//
//   StoreState state(limits);
//   state.handle(connection, request, now);
//   for (auto& [to, reply] : state.take_replies()) …       // to any connection: a set answers those that wait
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "distributed/membership.h"

namespace ondol {

class StoreState {
 public:
  explicit StoreState(const StoreLimits& limits) : members_(limits) {}

  void handle(ConnectionId from, const StoreRequest& request, StoreTime now);
  void closed(ConnectionId connection);
  /// Time-outs; at least every second.
  void tick(StoreTime now);
  void declare_failure(int rank, const std::string& why);

  std::vector<std::pair<ConnectionId, StoreReply>> take_replies() { return std::exchange(replies_, {}); }
  const Membership& members() const { return members_; }
  size_t stored_bytes() const { return stored_bytes_; }

 private:
  struct Waiting {
    ConnectionId connection;
    uint64_t id;
    StoreTime deadline;
  };
  struct Gathering {
    std::map<int64_t, std::string> values;  // by rank
    int64_t size = 0;
    std::vector<Waiting> waiting;
  };

  void set(ConnectionId from, const StoreRequest& request);
  void get(ConnectionId from, const StoreRequest& request, StoreTime now);
  void add(ConnectionId from, const StoreRequest& request);
  void gather(ConnectionId from, const StoreRequest& request, StoreTime now);
  void join(ConnectionId from, const StoreRequest& request, StoreTime now);
  void member_request(ConnectionId from, const StoreRequest& request, StoreTime now);

  bool make_room(ConnectionId from, uint64_t id, size_t bytes);
  void reply(ConnectionId to, uint64_t id, StoreStatus status, std::vector<std::string> values = {},
             int64_t number = 0);
  void reply_failed(ConnectionId to, uint64_t id);
  /// Once a rank has failed nobody waits any longer.
  void release_waiting();

  Membership members_;
  std::map<std::string, std::string> values_;
  std::map<std::string, int64_t> counters_;
  std::map<std::string, std::vector<Waiting>> waiting_;  // for values
  std::map<std::string, Gathering> gatherings_;
  size_t stored_bytes_ = 0;
  std::vector<std::pair<ConnectionId, StoreReply>> replies_;
};

}  // namespace ondol
