#include "distributed/membership.h"

#include <algorithm>

#include <ondol/base/error.h>

namespace ondol {
namespace {

constexpr std::chrono::milliseconds kReportHold{1000};
constexpr std::chrono::milliseconds kLongestPause{
    3000};  // between two ticks; beyond it this process was stopped itself
constexpr int64_t kMaxRanks = 1 << 20;

std::string seconds_text(std::chrono::steady_clock::duration time) {
  return concat(std::chrono::duration_cast<std::chrono::seconds>(time).count(), " s");
}

bool same_progress(const StoreRequest& a, const StoreRequest& b) {
  return a.first == b.first && a.second == b.second && a.third == b.third && a.key == b.key && a.value == b.value;
}

}  // namespace

std::string Membership::where(const Member& member) {
  std::string text = concat("host ", member.host, ", process ", member.process);
  text += member.status.first < 0 ? std::string(", before the first step") : concat(", step ", member.status.first);
  if (!member.status.value.empty()) text += concat(", last collective ", member.status.value);
  if (!member.status.key.empty()) text += concat(", busy: ", member.status.key);
  return text;
}

std::string Membership::describe(int rank) const {
  const auto found = members_.find(rank);
  return found == members_.end() ? concat("rank ", rank) : concat("rank ", rank, " (", where(found->second), ")");
}

Membership::Member* Membership::find(ConnectionId connection, int* rank) {
  for (auto& [number, member] : members_) {
    if (member.connection != connection) continue;
    if (rank != nullptr) *rank = number;
    return &member;
  }
  return nullptr;
}

void Membership::decide(JobFailure::Kind kind, int rank, const std::string& what) {
  if (failure_) return;
  const auto found = members_.find(rank);
  const std::string place = found == members_.end() ? "" : concat(" (", where(found->second), ")");
  failure_ = JobFailure{.kind = kind, .rank = rank, .message = concat("rank ", rank, " ", what, place)};
}

std::string Membership::join(ConnectionId connection, const StoreRequest& request, StoreTime now) {
  const int64_t rank = request.first, size = request.second;
  if (size < 1 || size > kMaxRanks || rank < 0 || rank >= size) return concat("no rank ", rank, " of ", size);
  if (find(connection) != nullptr) return "this connection has joined already";
  std::string why;
  if (!members_.empty()) {
    const auto& [first_rank, first] = *members_.begin();
    const auto twin = members_.find(static_cast<int>(rank));
    if (size != size_) {
      why = concat("ranks disagree about the number of ranks: rank ", rank, " says ", size, " (host ", request.key,
                   "), rank ", first_rank, " says ", size_, " (host ", first.host, ")");
    } else if (request.value != first.version) {
      why = concat("ranks run different programs: rank ", rank, " version ", request.value, " (host ", request.key,
                   "), rank ", first_rank, " version ", first.version, " (host ", first.host, ")");
    } else if (twin != members_.end()) {
      why = concat("two processes are rank ", rank, ": process ", request.third, " (host ", request.key,
                   ") and process ", twin->second.process, " (host ", twin->second.host, ")");
    }
  }
  if (!why.empty()) {
    if (!failure_) failure_ = JobFailure{JobFailure::Kind::refused, static_cast<int>(rank), why};
    return why;
  }
  size_ = size;
  Member member;
  member.connection = connection;
  member.host = request.key;
  member.version = request.value;
  member.process = request.third;
  member.status.first = -1;
  member.heard = member.changed = now;
  members_.emplace(static_cast<int>(rank), std::move(member));
  return "";
}

void Membership::update(Member& member, const StoreRequest& request, StoreTime now) {
  member.heard = now;
  if (same_progress(member.status, request)) return;
  member.status = request;
  member.changed = now;
}

bool Membership::beat(ConnectionId connection, const StoreRequest& request, StoreTime now) {
  Member* member = find(connection);
  if (member != nullptr) update(*member, request, now);
  return member != nullptr;
}

bool Membership::fail(ConnectionId connection, const StoreRequest& request, StoreTime now) {
  int rank = 0;
  Member* member = find(connection, &rank);
  if (member == nullptr) return false;
  member->heard = now;
  member->reported = true;
  if (!reported_) {
    reported_ = {rank, request.value};
    reported_at_ = now;
  }
  return true;
}

bool Membership::leave(ConnectionId connection, const StoreRequest& request, StoreTime now) {
  Member* member = find(connection);
  if (member == nullptr) return false;
  update(*member, request, now);
  member->left = true;
  return true;
}

void Membership::closed(ConnectionId connection) {
  int rank = 0;
  Member* member = find(connection, &rank);
  if (member == nullptr || member->gone) return;
  member->gone = true;
  if (!member->left && !member->reported) decide(JobFailure::Kind::died, rank, "died: its connection closed");
}

void Membership::tell(ConnectionId connection) {
  if (Member* member = find(connection)) member->told = true;
}

void Membership::declare(int rank, const std::string& why) { decide(JobFailure::Kind::died, rank, why); }

bool Membership::all_left() const {
  return std::all_of(members_.begin(), members_.end(), [this](const auto& entry) {
    const Member& member = entry.second;
    const bool failed = failure_ && failure_->rank == entry.first;
    return member.left || member.gone || (failed && (member.told || failure_->kind == JobFailure::Kind::silent));
  });
}

void Membership::look_for_silence(StoreTime now) {
  for (const auto& [rank, member] : members_) {
    if (member.left || member.gone || member.reported || now - member.heard <= limits_.silence) continue;
    decide(JobFailure::Kind::silent, rank,
           concat("does not answer: nothing heard of it for ", seconds_text(now - member.heard)));
  }
}

void Membership::look_for_stuck(StoreTime now) {
  const auto behind = [](const auto& a, const auto& b) { return a.second.status.second < b.second.status.second; };
  const auto last = std::min_element(members_.begin(), members_.end(), behind);
  const auto first = std::max_element(members_.begin(), members_.end(), behind);
  if (last == members_.end() || first->second.status.second == last->second.status.second) return;
  const Member& member = last->second;
  const Member& waiting = first->second;
  if (waiting.left || waiting.gone || !member.status.key.empty() || member.status.first < 0) return;
  if (now - member.changed <= limits_.stuck || now - waiting.changed <= limits_.stuck) return;
  const std::string who = concat(" while rank ", first->first, " waits in ", waiting.status.value);
  decide(
      JobFailure::Kind::stuck, last->first,
      member.left ? "has left" + who : concat("is stuck: no progress for ", seconds_text(now - member.changed), who));
}

void Membership::tick(StoreTime now) {
  if (last_tick_ && now - *last_tick_ > kLongestPause) {
    // Nobody could be heard while this process was stopped: that time does not count.
    const auto pause = now - *last_tick_;
    for (auto& [rank, member] : members_) {
      member.heard += pause;
      member.changed += pause;
    }
    reported_at_ += pause;
  }
  last_tick_ = now;
  if (failure_) return;
  look_for_silence(now);
  look_for_stuck(now);
  if (reported_ && now - reported_at_ > kReportHold) {
    decide(JobFailure::Kind::reported, reported_->first, "failed: " + reported_->second);
  }
}

}  // namespace ondol
