// Jobs whose ranks are threads of the test; processes that die and hang are in launcher_test.cpp.
#include <ondol/distributed/job.h>

#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "distributed/store_socket.h"
#include "support/error_of.h"

namespace ondol {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::error_of;

std::vector<RankInfo> ranks(int size) {
  int port = 0;
  { const std::vector<Socket> freed = listen_sockets(port, true); }
  std::vector<RankInfo> all;
  for (int rank = 0; rank < size; ++rank) {
    all.push_back(
        {.rank = rank, .size = size, .local_rank = rank, .local_size = size, .master_port = port, .job_secret = "job"});
  }
  return all;
}

JobOptions quick() {
  JobOptions options;
  options.limits = {.silence = seconds(3), .stuck = seconds(2)};
  options.join_timeout = seconds(20);
  options.leave_time = seconds(2);
  return options;
}

/// What each rank's function ends with.
template <class Rank>
std::vector<std::string> run(const std::vector<RankInfo>& infos, const Rank& rank,
                             const JobOptions& options = quick()) {
  std::vector<std::string> errors(infos.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < infos.size(); ++i) {
    threads.emplace_back([&, i] {
      errors[i] = error_of([&] {
        Job job(infos[i], options);
        try {
          rank(job);
        } catch (...) {
          job.give_up(std::current_exception());
        }
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// What all ranks say, once all have come here.
std::vector<std::string> meet(Job& job, const std::string& text = "") {
  return job.store().gather("meeting", job.info().rank, job.info().size, text, std::chrono::minutes(1));
}

TEST(Job, RanksMeetAgreeAndLeave) {
  const auto errors = run(ranks(3), [](Job& job) {
    for (int64_t step = 0; step < 5; ++step) {
      job.set_step(step);
      const std::vector<std::string> told = meet(job, concat(step, job.info().rank == 1 ? " of 1" : ""));
      ASSERT_EQ(told, (std::vector<std::string>{concat(step), concat(step, " of 1"), concat(step)}));
    }
    job.rendezvous()->set(concat("address/", job.info().rank), "here");
    EXPECT_EQ(job.rendezvous()->get("address/2", seconds(5)), "here");
  });
  EXPECT_EQ(errors, std::vector<std::string>(3, "no error"));
}

TEST(Job, AnotherNumberOfRanksIsRefused) {
  std::vector<RankInfo> infos = ranks(2);
  infos[1].size = 3;
  const auto errors = run(infos, [](Job&) {});
  EXPECT_NE(errors[1].find("ranks disagree about the number of ranks"), std::string::npos) << errors[1];
  EXPECT_NE(errors[0].find("ranks disagree about the number of ranks"), std::string::npos) << errors[0];
}

TEST(Job, WhoDoesNotComeIsNamed) {
  std::vector<RankInfo> infos = ranks(4);
  infos.erase(infos.begin() + 2);
  JobOptions options = quick();
  options.join_timeout = milliseconds(1500);
  const auto errors = run(
      infos, [](Job&) {}, options);
  EXPECT_NE(errors[0].find("rank 2 did not come"), std::string::npos) << errors[0];
}

TEST(Job, TheErrorOfOneRankReachesAll) {
  const auto errors = run(ranks(3), [](Job& job) {
    job.set_step(17);
    if (job.info().rank == 2) throw Error("no space left on device (out)");
    meet(job);
  });
  EXPECT_EQ(errors[2], "no space left on device (out)");
  for (int rank = 0; rank < 2; ++rank) {
    const std::string& error = errors[static_cast<size_t>(rank)];
    EXPECT_TRUE(error.starts_with("rank 2 failed: no space left on device (out) (host ")) << error;
    EXPECT_NE(error.find(", step 17"), std::string::npos) << error;
  }
}

TEST(Job, AStuckRankIsNamedAndItsWaitingIsEnded) {
  std::mutex mutex;
  std::string overdue, aborted;
  JobOptions options = quick();
  options.on_overdue = [&](const std::string& message) {
    const std::lock_guard lock(mutex);
    overdue = message;
  };
  options.leave_time = milliseconds(500);
  const auto errors = run(
      ranks(2),
      [&](Job& job) {
        const bool stuck = job.info().rank == 1;
        const auto watched =
            job.watch([stuck] { return std::string(stuck ? "all_reduce #3, 8 bytes" : "all_reduce #4, 16 bytes"); },
                      [&, stuck](const std::string& why) {
                        const std::lock_guard lock(mutex);
                        if (!stuck) aborted = why;
                      });
        job.set_step(5);
        if (stuck) {
          std::this_thread::sleep_for(seconds(6));  // says nothing of it
          return job.check();
        }
        for (;;) {  // the collective of the others
          std::this_thread::sleep_for(milliseconds(10));
          const std::lock_guard lock(mutex);
          if (!aborted.empty()) throw Error(aborted);
        }
      },
      options);
  const std::string wanted =
      "rank 1 is stuck: no progress for 2 s while rank 0 waits in all_reduce #4, 16 bytes (host ";
  for (const std::string& error : errors) EXPECT_TRUE(error.starts_with(wanted)) << error;
  EXPECT_EQ(aborted, errors[0]);
  EXPECT_EQ(overdue, errors[0]);
}

TEST(Job, LongWorkIsNotStuck) {
  const auto errors = run(ranks(2), [&](Job& job) {
    const bool slow = job.info().rank == 1;
    const auto watched =
        job.watch([slow] { return std::string(slow ? "all_reduce #3, 8 bytes" : "all_reduce #4, 16 bytes"); }, nullptr);
    job.set_step(5);
    if (slow) {
      const auto work = job.long_work("writes a checkpoint");
      std::this_thread::sleep_for(seconds(4));
    }
    meet(job);
  });
  EXPECT_EQ(errors, std::vector<std::string>(2, "no error"));
}

TEST(Job, TimesComeFromTheEnvironment) {
  ::setenv("ONDOL_SILENCE_SECONDS", "2.5", 1);
  EXPECT_EQ(find_job_options().limits.silence, milliseconds(2500));
  for (const char* wrong : {"", "soon", "0", "-1", "5s", "nan", "1e9"}) {
    ::setenv("ONDOL_SILENCE_SECONDS", wrong, 1);
    EXPECT_THROW(find_job_options(), UsageError) << wrong;
  }
  ::unsetenv("ONDOL_SILENCE_SECONDS");
  EXPECT_EQ(find_job_options().limits.silence, StoreLimits().silence);
}

}  // namespace
}  // namespace ondol
