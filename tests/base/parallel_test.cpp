#include <ondol/base/parallel.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

/// Restores the number of threads.
struct Threads {
  explicit Threads(int count) : before(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before); }
  const int before;
};

std::vector<int> visits(int64_t count, int64_t grain) {
  std::vector<int> seen(static_cast<size_t>(count), 0);
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    EXPECT_TRUE(begin % grain == 0 && (end % grain == 0 || end == count));
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  return seen;
}

TEST(Parallel, EveryIndexOnceForAnyTeam) {
  for (const int team : {1, 2, 3, 7}) {
    const Threads threads(team);
    for (const int64_t count : {0, 1, 5, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64}) EXPECT_EQ(visits(count, grain), std::vector<int>(count, 1));
    }
  }
}

TEST(Parallel, ManyShortRegions) {
  const Threads threads(4);
  std::atomic<int64_t> total{0};
  for (int i = 0; i < 2000; ++i) {
    parallel_for(4, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
  }
  EXPECT_EQ(total, 8000);
}

TEST(Parallel, SleepingWorkersWakeUp) {
  const Threads threads(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(visits(300, 1), std::vector<int>(300, 1));
  }
}

TEST(Parallel, NestedRegionsRunOnTheirThread) {
  const Threads threads(2);
  std::atomic<int> count{0};
  parallel_for(2, 1, [&](int64_t, int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(100, 1, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      count += static_cast<int>(end - begin);
    });
  });
  EXPECT_EQ(count, 200);
}

TEST(Parallel, SeveralThreadsMayCallAtOnce) {
  const Threads threads(2);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) parallel_for(10, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 500 * 10);
}

TEST(Parallel, ExceptionsReachTheCaller) {
  const Threads threads(2);
  for (const int64_t bad : {0, 9}) {
    EXPECT_THROW(parallel_for(10, 1,
                              [&](int64_t begin, int64_t end) {
                                if (begin <= bad && bad < end) throw std::runtime_error("bad range");
                              }),
                 std::runtime_error);
  }
  EXPECT_EQ(visits(10, 1), std::vector<int>(10, 1));
}

TEST(Parallel, WorksInAForkedChild) {
  const Threads threads(2);
  EXPECT_EQ(visits(10, 1), std::vector<int>(10, 1));
  const pid_t child = fork();
  if (child == 0) _exit(visits(10, 1) == std::vector<int>(10, 1) ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace ondol
