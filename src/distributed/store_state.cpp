#include "distributed/store_state.h"

#include <algorithm>

#include <ondol/base/error.h>

#include "distributed/rank_list.h"

namespace ondol {

namespace {

constexpr size_t kMaxStored = size_t{256} << 20;
constexpr size_t kEntryBytes = 128;  // what an entry takes beside key and value
constexpr int64_t kMaxGatherers = 1 << 20;

StoreTime deadline_of(const StoreRequest& request, StoreTime now) {
  return now + std::chrono::milliseconds(request.timeout_ms);
}

template <class Entries>
void remove_connection(Entries& waiting, ConnectionId connection) {
  std::erase_if(waiting, [&](const auto& entry) { return entry.connection == connection; });
}

}  // namespace

void StoreState::reply(ConnectionId to, uint64_t id, StoreStatus status, std::vector<std::string> values,
                       int64_t number) {
  replies_.push_back({to, {.status = status, .id = id, .number = number, .values = std::move(values)}});
}

void StoreState::reply_failed(ConnectionId to, uint64_t id) {
  members_.tell(to);
  const JobFailure& failure = *members_.failure();
  const char* kind = failure.kind == JobFailure::Kind::refused ? "usage" : "failure";
  reply(to, id, StoreStatus::failed, {failure.message, kind}, failure.rank);
}

bool StoreState::make_room(ConnectionId from, uint64_t id, size_t bytes) {
  if (stored_bytes_ + bytes + kEntryBytes > kMaxStored) {
    reply(from, id, StoreStatus::refused, {"the store is full"});
    return false;
  }
  stored_bytes_ += bytes + kEntryBytes;
  return true;
}

void StoreState::set(ConnectionId from, const StoreRequest& request) {
  const auto found = values_.find(request.key);
  if (found != values_.end()) {
    const bool same = found->second == request.value;
    return reply(from, request.id, same ? StoreStatus::ok : StoreStatus::refused,
                 {same ? "" : "it has another value already"});
  }
  if (!make_room(from, request.id, request.key.size() + request.value.size())) return;
  values_.emplace(request.key, request.value);
  reply(from, request.id, StoreStatus::ok);
  const auto parked = waiting_.find(request.key);
  if (parked == waiting_.end()) return;
  for (const Waiting& waiting : parked->second) {
    reply(waiting.connection, waiting.id, StoreStatus::ok, {request.value});
  }
  waiting_.erase(parked);
}

void StoreState::get(ConnectionId from, const StoreRequest& request, StoreTime now) {
  const auto found = values_.find(request.key);
  if (found != values_.end()) return reply(from, request.id, StoreStatus::ok, {found->second});
  if (members_.failure() != nullptr) return reply_failed(from, request.id);
  waiting_[request.key].push_back({from, request.id, deadline_of(request, now)});
}

void StoreState::add(ConnectionId from, const StoreRequest& request) {
  auto found = counters_.find(request.key);
  if (found == counters_.end()) {
    if (!make_room(from, request.id, request.key.size())) return;
    found = counters_.emplace(request.key, 0).first;
  }
  // Wraps around like the machine's own addition.
  found->second = static_cast<int64_t>(static_cast<uint64_t>(found->second) + static_cast<uint64_t>(request.first));
  reply(from, request.id, StoreStatus::ok, {}, found->second);
}

void StoreState::gather(ConnectionId from, const StoreRequest& request, StoreTime now) {
  if (members_.failure() != nullptr) return reply_failed(from, request.id);
  const int64_t rank = request.first, size = request.second;
  if (size < 1 || size > kMaxGatherers || rank < 0 || rank >= size) {
    return reply(from, request.id, StoreStatus::refused, {concat("no rank ", rank, " of ", size)});
  }
  if (request.value.size() > kMaxStoreReply / 2 / static_cast<size_t>(size)) {
    return reply(from, request.id, StoreStatus::refused, {concat("values are too long for ", size, " ranks")});
  }
  Gathering& gathering = gatherings_[request.key];
  if (gathering.size != 0 && gathering.size != size) {
    return reply(from, request.id, StoreStatus::refused,
                 {concat("rank ", rank, " speaks of ", size, " ranks, others of ", gathering.size)});
  }
  if (gathering.values.contains(rank)) {
    return reply(from, request.id, StoreStatus::refused, {concat("rank ", rank, " has given its value already")});
  }
  if (!make_room(from, request.id, request.value.size())) return;
  gathering.size = size;
  gathering.values.emplace(rank, request.value);
  gathering.waiting.push_back({from, request.id, deadline_of(request, now)});
  if (static_cast<int64_t>(gathering.values.size()) < size) return;

  std::vector<std::string> values;
  for (auto& [number, value] : gathering.values) {
    stored_bytes_ -= value.size() + kEntryBytes;
    values.push_back(std::move(value));
  }
  for (const Waiting& waiting : gathering.waiting) reply(waiting.connection, waiting.id, StoreStatus::ok, values);
  gatherings_.erase(request.key);
}

void StoreState::join(ConnectionId from, const StoreRequest& request, StoreTime now) {
  const std::string why = members_.join(from, request, now);
  reply(from, request.id, why.empty() ? StoreStatus::ok : StoreStatus::refused, {why});
}

void StoreState::member_request(ConnectionId from, const StoreRequest& request, StoreTime now) {
  bool known = false;
  if (request.op == StoreOp::beat) known = members_.beat(from, request, now);
  if (request.op == StoreOp::fail) known = members_.fail(from, request, now);
  if (request.op == StoreOp::leave) known = members_.leave(from, request, now);
  if (!known) return reply(from, request.id, StoreStatus::refused, {"this connection has not joined"});
  if (members_.failure() != nullptr) return reply_failed(from, request.id);
  // Rank 0 may hold the store: the others must be able to say where it was when it dies.
  reply(from, request.id, StoreStatus::ok, {members_.describe(0)});
}

void StoreState::handle(ConnectionId from, const StoreRequest& request, StoreTime now) {
  switch (request.op) {
    case StoreOp::set:
      set(from, request);
      break;
    case StoreOp::get:
      get(from, request, now);
      break;
    case StoreOp::add:
      add(from, request);
      break;
    case StoreOp::gather:
      gather(from, request, now);
      break;
    case StoreOp::join:
      join(from, request, now);
      break;
    default:
      member_request(from, request, now);
      break;
  }
  release_waiting();
}

void StoreState::closed(ConnectionId connection) {
  for (auto& [key, waiting] : waiting_) remove_connection(waiting, connection);
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [key, gathering] : gatherings_) remove_connection(gathering.waiting, connection);
  members_.closed(connection);
  release_waiting();
}

void StoreState::declare_failure(int rank, const std::string& why) {
  members_.declare(rank, why);
  release_waiting();
}

void StoreState::release_waiting() {
  if (members_.failure() == nullptr) return;
  for (const auto& [key, waiting] : std::exchange(waiting_, {})) {
    for (const Waiting& entry : waiting) reply_failed(entry.connection, entry.id);
  }
  for (const auto& [key, gathering] : std::exchange(gatherings_, {})) {
    for (const Waiting& entry : gathering.waiting) reply_failed(entry.connection, entry.id);
  }
}

void StoreState::tick(StoreTime now) {
  members_.tick(now);
  release_waiting();
  for (auto& [key, waiting] : waiting_) {
    std::erase_if(waiting, [&](const Waiting& entry) {
      if (entry.deadline > now) return false;
      reply(entry.connection, entry.id, StoreStatus::timed_out, {"no rank has set it"});
      return true;
    });
  }
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [key, gathering] : gatherings_) {
    std::erase_if(gathering.waiting, [&, &gathering = gathering](const Waiting& entry) {
      if (entry.deadline > now) return false;
      std::vector<int> missing;
      for (int64_t rank = 0; rank < gathering.size; ++rank) {
        if (!gathering.values.contains(rank)) missing.push_back(static_cast<int>(rank));
      }
      reply(entry.connection, entry.id, StoreStatus::timed_out, {rank_list(missing) + " did not come"});
      return true;
    });
  }
}

}  // namespace ondol
