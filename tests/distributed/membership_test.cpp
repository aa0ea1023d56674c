// Which rank is found to have failed, and when, with a clock of the test's own.
#include "distributed/membership.h"

#include <ondol/base/error.h>

#include <gtest/gtest.h>

#include "distributed/store_state.h"

namespace ondol {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

StoreRequest joining(int rank, int size) {
  return {.op = StoreOp::join,
          .first = rank,
          .second = size,
          .third = 1000 + rank,
          .key = concat("host", rank),
          .value = "0.1.0"};
}

StoreRequest beat(int64_t step, int64_t sequence, const std::string& busy = "") {
  return {.op = StoreOp::beat,
          .first = step,
          .second = sequence,
          .key = busy,
          .value = sequence == 0 ? "" : concat("all_reduce #", sequence, ", 64 bytes")};
}

class Jobs : public ::testing::Test {
 protected:
  void join_all(int size) {
    for (int rank = 0; rank < size; ++rank) {
      ASSERT_EQ(members.join(connection(rank), joining(rank, size), now), "");
    }
  }
  static ConnectionId connection(int rank) { return static_cast<ConnectionId>(100 + rank); }
  /// One second in which the given ranks are heard of.
  void second(const std::vector<std::pair<int, StoreRequest>>& beats) {
    for (int part = 0; part < 2; ++part) {
      now += milliseconds(500);
      for (const auto& [rank, request] : beats) members.beat(connection(rank), request, now);
      members.tick(now);
    }
  }
  std::string message() const { return members.failure() == nullptr ? "none" : members.failure()->message; }
  int failed_rank() const { return members.failure() == nullptr ? -1 : members.failure()->rank; }

  Membership members{StoreLimits{}};
  StoreTime now = StoreTime() + seconds(1000);
};

TEST_F(Jobs, ADeadRankIsNamedAtOnce) {
  join_all(3);
  second({{0, beat(4, 9)}, {1, beat(4, 9)}, {2, beat(4, 8)}});
  members.closed(connection(2));
  EXPECT_EQ(message(),
            "rank 2 died: its connection closed (host host2, process 1002, step 4, last collective all_reduce #8, 64 "
            "bytes)");
  members.closed(connection(1));  // a consequence
  EXPECT_EQ(failed_rank(), 2);
}

TEST_F(Jobs, ARankThatHasLeftIsNotDead) {
  join_all(2);
  EXPECT_TRUE(members.leave(connection(1), beat(10, 3), now));
  members.closed(connection(1));
  EXPECT_FALSE(members.all_left());
  EXPECT_TRUE(members.leave(connection(0), beat(10, 3), now));
  members.closed(connection(0));
  EXPECT_TRUE(members.all_left());
  EXPECT_EQ(message(), "none");
}

TEST_F(Jobs, ASilentRankIsNamedInTime) {
  join_all(3);
  second({{0, beat(0, 0)}, {1, beat(0, 0)}, {2, beat(0, 0)}});
  int waited = 0;
  for (; members.failure() == nullptr && waited < 40; ++waited) second({{0, beat(1, 1)}, {2, beat(1, 1)}});
  EXPECT_EQ(failed_rank(), 1);
  EXPECT_GE(waited, 15);
  EXPECT_LE(waited, 17);
  EXPECT_NE(message().find("rank 1 does not answer: nothing heard of it for 15 s (host host1"), std::string::npos)
      << message();
}

TEST_F(Jobs, AStuckRankIsNamedInTime) {
  join_all(3);
  int waited = 0;
  for (; members.failure() == nullptr && waited < 40; ++waited)
    second({{0, beat(7, 5)}, {1, beat(7, 4)}, {2, beat(7, 5)}});
  EXPECT_EQ(failed_rank(), 1);
  EXPECT_GE(waited, 20);
  EXPECT_LE(waited, 22);
  EXPECT_EQ(message(),
            "rank 1 is stuck: no progress for 20 s while rank 0 waits in all_reduce #5, 64 bytes (host host1, process "
            "1001, step 7, last collective all_reduce #4, 64 bytes)");
}

TEST_F(Jobs, SlowIsNotStuck) {
  join_all(2);
  for (int t = 0; t < 100; ++t) second({{0, beat(7, 5)}, {1, beat(7, 5)}});  // all wait alike: nobody is to blame
  EXPECT_EQ(message(), "none");
  for (int t = 0; t < 100; ++t) {  // a long piece of work with progress
    StoreRequest working = beat(8, 5);
    working.third = t / 10;
    second({{0, beat(8, 6)}, {1, working}});
  }
  EXPECT_EQ(message(), "none");
  for (int t = 0; t < 100; ++t) second({{0, beat(9, 7)}, {1, beat(9, 6, "writes a checkpoint")}});
  EXPECT_EQ(message(), "none");
  for (int t = 0; t < 100; ++t) second({{0, beat(-1, 7)}, {1, beat(-1, 6)}});  // preparation, before the first step
  EXPECT_EQ(message(), "none");
}

TEST_F(Jobs, ARankThatLeavesEarlyIsNamed) {
  join_all(2);
  members.leave(connection(1), beat(3, 4), now);
  members.closed(connection(1));
  for (int t = 0; t < 30; ++t) second({{0, beat(3, 5)}});
  EXPECT_NE(message().find("rank 1 has left while rank 0 waits in all_reduce #5"), std::string::npos) << message();
}

TEST_F(Jobs, TimeInWhichTheServerItselfWasStoppedDoesNotCount) {
  join_all(2);
  second({{0, beat(1, 1)}, {1, beat(1, 1)}});
  now += seconds(300);
  members.tick(now);
  EXPECT_EQ(message(), "none");
  second({{0, beat(1, 1)}, {1, beat(1, 1)}});
  EXPECT_EQ(message(), "none");
}

TEST_F(Jobs, WhatARankReportsCountsUnlessADeathExplainsIt) {
  join_all(3);
  members.fail(connection(1), {.op = StoreOp::fail, .value = "rank 2 does not answer"}, now);
  members.closed(connection(1));
  members.closed(connection(2));
  EXPECT_EQ(failed_rank(), 2);

  Membership others{StoreLimits{}};
  for (int rank = 0; rank < 2; ++rank) others.join(connection(rank), joining(rank, 2), now);
  others.tick(now);
  others.fail(connection(1), {.op = StoreOp::fail, .value = "no space left on device"}, now);
  others.closed(connection(1));
  others.tick(now + milliseconds(500));
  EXPECT_EQ(others.failure(), nullptr);
  others.beat(connection(0), beat(0, 0), now + milliseconds(1200));
  others.tick(now + milliseconds(1200));
  ASSERT_NE(others.failure(), nullptr);
  EXPECT_EQ(others.failure()->message,
            "rank 1 failed: no space left on device (host host1, process 1001, before the first step)");
}

TEST_F(Jobs, RanksThatDoNotFitAreRefusedByName) {
  EXPECT_EQ(members.join(1, joining(0, 2), now), "");
  EXPECT_EQ(members.join(2, joining(5, 2), now), "no rank 5 of 2");
  EXPECT_EQ(members.join(2, joining(1, 3), now),
            "ranks disagree about the number of ranks: rank 1 says 3 (host host1), rank 0 says 2 (host host0)");
  EXPECT_EQ(members.failure()->kind, JobFailure::Kind::refused);

  Membership versions{StoreLimits{}};
  versions.join(1, joining(0, 2), now);
  StoreRequest other = joining(1, 2);
  other.value = "0.2.0";
  EXPECT_EQ(versions.join(2, other, now),
            "ranks run different programs: rank 1 version 0.2.0 (host host1), rank 0 version 0.1.0 (host host0)");

  Membership twins{StoreLimits{}};
  twins.join(1, joining(0, 2), now);
  EXPECT_EQ(twins.join(2, joining(0, 2), now),
            "two processes are rank 0: process 1000 (host host0) and process 1000 (host host0)");
}

TEST(StoreState, AFailureReleasesWhoWaits) {
  StoreState state({});
  const StoreTime now;
  state.handle(1, joining(0, 2), now);
  state.handle(2, joining(1, 2), now);
  state.handle(3, {.op = StoreOp::get, .id = 50, .timeout_ms = 60000, .key = "never"}, now);
  state.handle(4, {.op = StoreOp::gather, .id = 60, .timeout_ms = 60000, .first = 0, .second = 2, .key = "g"}, now);
  state.take_replies();
  state.closed(2);
  const auto replies = state.take_replies();
  ASSERT_EQ(replies.size(), 2u);
  for (const auto& [to, reply] : replies) {
    EXPECT_EQ(reply.status, StoreStatus::failed);
    EXPECT_EQ(reply.number, 1);
    EXPECT_TRUE(reply.values.at(0).starts_with("rank 1 died")) << reply.values[0];
  }
}

}  // namespace
}  // namespace ondol
