// Who belongs to a job, how its ranks fare, and which of them failed first. No sockets and no clock: the caller says
// what has come from which connection and what time it is.
//
//   Membership members(limits);
//   members.join(connection, request, now);  members.beat(connection, request, now);
//   members.tick(now);                                     // at least every second
//   if (const JobFailure* failure = members.failure()) …   // the first one stays
//
// A rank has died when its connection closes without a farewell, is silent when it has not been heard of for
// limits.silence, and stuck when others have waited for it for limits.stuck in a later collective without any progress
// of its own, unless it has said what takes it so long. A rank that gives up says why; what it says counts after a
// short while, as it may only be the consequence of a death that is about to be noticed.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <ondol/distributed/store.h>

#include "distributed/store_messages.h"

namespace ondol {

using ConnectionId = uint64_t;
using StoreTime = std::chrono::steady_clock::time_point;

class Membership {
 public:
  explicit Membership(const StoreLimits& limits) : limits_(limits) {}

  /// Why the rank cannot join, "" when it has; a refusal is a failure of the job.
  std::string join(ConnectionId connection, const StoreRequest& request, StoreTime now);
  /// False when the connection has not joined.
  bool beat(ConnectionId connection, const StoreRequest& request, StoreTime now);
  bool fail(ConnectionId connection, const StoreRequest& request, StoreTime now);
  /// The rank is being told of the failure.
  void tell(ConnectionId connection);
  bool leave(ConnectionId connection, const StoreRequest& request, StoreTime now);
  /// The connection is no more.
  void closed(ConnectionId connection);
  void tick(StoreTime now);
  /// The failure of a rank that is known from elsewhere (the launcher saw it end).
  void declare(int rank, const std::string& why);

  const JobFailure* failure() const { return failure_ ? &*failure_ : nullptr; }
  /// Whether every rank that has joined has left or gone, or has failed and cannot or need not hear more.
  bool all_left() const;
  /// "rank 2 (host a, process 17, step 5, last collective all_reduce #3, 64 bytes)"; only "rank 2" if unknown.
  std::string describe(int rank) const;

 private:
  struct Member {
    ConnectionId connection = 0;
    std::string host, version;
    int64_t process = 0;
    StoreRequest status;  // of the last beat
    StoreTime heard, changed;
    bool left = false, gone = false, reported = false;
    bool told = false;  // of the failure
  };

  Member* find(ConnectionId connection, int* rank = nullptr);
  void update(Member& member, const StoreRequest& request, StoreTime now);
  void decide(JobFailure::Kind kind, int rank, const std::string& what);
  void look_for_silence(StoreTime now);
  void look_for_stuck(StoreTime now);
  static std::string where(const Member& member);

  StoreLimits limits_;
  int64_t size_ = 0;
  std::map<int, Member> members_;  // by rank
  std::optional<JobFailure> failure_;
  std::optional<std::pair<int, std::string>> reported_;  // by a rank, not yet taken for the cause
  StoreTime reported_at_;
  std::optional<StoreTime> last_tick_;
};

}  // namespace ondol
