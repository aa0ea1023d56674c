#include <ondol/distributed/communicator.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "distributed/collective_cases.h"
#include "support/error_of.h"
#include "support/ranks.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::run_collective_cases;
using testing::run_ranks;
using testing::run_ranks_with;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

std::vector<std::string> no_errors(int size) { return std::vector<std::string>(static_cast<size_t>(size)); }

size_t entries_of(const char* directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST(Communicator, OneProcessNeedsNoOther) {
  const auto world = make_communicator({}, nullptr);
  EXPECT_EQ(world->transport(), CommTransport::single);
  EXPECT_GT(run_collective_cases(*world, 1000), 100);
}

TEST(Communicator, WrongCallsAreRefused) {
  const auto world = make_communicator({}, nullptr);
  const Tensor x = Tensor::zeros({8});
  EXPECT_NE(error_of([&] { world->all_reduce(x, Tensor::zeros({7})); }).find("7 elements in and 8 out"),
            std::string::npos);
  EXPECT_NE(error_of([&] { world->all_reduce(x, Tensor::zeros({8}, DType::f64)); }).find("f64"), std::string::npos);
  EXPECT_NE(error_of([&] { world->all_reduce(Tensor::zeros({8}, DType::u8)); }).find("no sum of u8"),
            std::string::npos);
  EXPECT_NE(error_of([&] { world->all_reduce(x.narrow(0, 0, 4), x.narrow(0, 2, 4)); }).find("overlap"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              world->all_reduce(Tensor::zeros({4, 4}).transpose(0, 1));
            }).find("contiguous"),
            std::string::npos);
  EXPECT_NE(error_of([&] { world->broadcast(x, 1); }).find("no rank 1"), std::string::npos);
  EXPECT_NE(error_of([&] { world->all_reduce(x, {ReduceOp::sum, 2}); }).find("2 contributors of 1"), std::string::npos);
  world->abort("enough");
  EXPECT_EQ(error_of([&] { world->barrier(); }), "rank 0 aborted: enough");
}

class Transports : public ::testing::TestWithParam<CommTransport> {
 protected:
  static CommunicatorOptions options() {
    return {.transport = GetParam(), .connect_timeout = std::chrono::seconds(20)};
  }
};

INSTANTIATE_TEST_SUITE_P(Host, Transports, ::testing::Values(CommTransport::shm, CommTransport::tcp),
                         [](const auto& test) { return std::string(comm_transport_name(test.param)); });

TEST_P(Transports, SumsAreTheTreesForAnyNumberOfRanks) {
  for (const int size : {2, 3, 4, 5, 8}) {
    EXPECT_EQ(run_ranks(size,
                        [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
                          const auto world = make_communicator(info, meeting, options());
                          ONDOL_CHECK(world->transport() == GetParam(), "another transport");
                          const int cases = run_collective_cases(*world, size == 4 ? 1000003 : 20011);
                          ONDOL_CHECK(cases > 500, "only ", cases, " cases");
                          world->barrier().wait();
                        }),
              no_errors(size));
  }
}

TEST_P(Transports, NothingStaysBehind) {
  const size_t descriptors = entries_of("/proc/self/fd");
  EXPECT_EQ(run_ranks(3,
                      [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
                        const size_t open = entries_of("/proc/self/fd");
                        for (int i = 0; i < 3; ++i) {
                          CommunicatorOptions named = options();
                          named.name = concat("again", i);
                          const auto world = make_communicator(info, meeting, named);
                          world->barrier().wait();
                        }
                        ONDOL_CHECK(entries_of("/proc/self/fd") == open, "files are left open");
                        ONDOL_CHECK(entries_of("/proc/self/task") == 1, "threads are left running");
                        std::ifstream maps("/proc/self/maps");
                        for (std::string line; std::getline(maps, line);) {
                          ONDOL_CHECK(line.find("memfd") == std::string::npos, "memory is left: ", line);
                        }
                      }),
            no_errors(3));
  EXPECT_EQ(entries_of("/proc/self/fd"), descriptors);
}

TEST_P(Transports, WorkGoesOnMeanwhile) {
  EXPECT_EQ(run_ranks(2,
                      [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
                        const auto world = make_communicator(info, meeting, options());
                        const Tensor x = Tensor::full({100000}, 1);
                        const CommEvent sum = world->all_reduce(x);
                        // Nobody waits for the event: the communication thread does it.
                        const auto end = Clock::now() + std::chrono::seconds(10);
                        while (!sum.done() && Clock::now() < end) std::this_thread::sleep_for(milliseconds(1));
                        ONDOL_CHECK(sum.done(), "not done");
                        ONDOL_CHECK(x.to_vector<float>()[99999] == 2, "wrong sum");
                        const CommStatistics statistics = world->statistics();
                        ONDOL_CHECK(statistics.collectives == 1 && statistics.bytes == 400000, "wrong statistics");
                        ONDOL_CHECK(statistics.exposed_seconds == 0 && statistics.busy_seconds > 0, "wrong times");
                        ONDOL_CHECK(world->last_collective() == "all_reduce #1, 400000 bytes",
                                    world->last_collective());
                        world->barrier().wait();
                      }),
            no_errors(2));
}

TEST_P(Transports, ADeadRankIsNamed) {
  const auto run = run_ranks_with(
      3,
      [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
        const auto world = make_communicator(info, meeting, options());
        const Tensor x = Tensor::full({1 << 20}, 1);
        for (int i = 0;; ++i) {
          if (info.rank == 1 && i == 5) raise(SIGKILL);
          world->all_reduce(x).wait();
        }
      },
      [](const std::vector<int>&) {});
  EXPECT_EQ(run.errors[1], "signal 9");
  for (const size_t r : {0u, 2u}) {
    EXPECT_NE(run.errors[r].find("rank 1 has died"), std::string::npos) << run.errors[r];
    // It may be noticed before the others are done with the sum before.
    EXPECT_TRUE(run.errors[r].find("all_reduce #6, 4194304 bytes]") != std::string::npos ||
                run.errors[r].find("all_reduce #5, 4194304 bytes]") != std::string::npos)
        << run.errors[r];
    EXPECT_LT(run.seconds[r], 5 + run.seconds[1]);
  }
}

TEST_P(Transports, AStoppedRankIsNamed) {
  const auto run = run_ranks_with(
      3,
      [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
        CommunicatorOptions impatient = options();
        impatient.silence_timeout = milliseconds(1500);
        const auto world = make_communicator(info, meeting, impatient);
        world->barrier().wait();
        meeting->set(concat("there", info.rank), "");
        const Tensor x = Tensor::full({1000}, 1);
        if (info.rank == 2) std::this_thread::sleep_for(std::chrono::seconds(60));
        world->all_reduce(x).wait();
      },
      [](const std::vector<int>& processes) {
        std::this_thread::sleep_for(milliseconds(500));
        kill(processes[2], SIGSTOP);
        std::this_thread::sleep_for(milliseconds(4000));
        kill(processes[2], SIGKILL);
      });
  for (const size_t r : {0u, 1u}) {
    EXPECT_NE(run.errors[r].find("rank 2 gives no sign of life for 1.5 s"), std::string::npos) << run.errors[r];
    EXPECT_LT(run.seconds[r], 4.6);
  }
}

TEST_P(Transports, ALateRankIsNamed) {
  const auto errors = run_ranks(3, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    CommunicatorOptions impatient = options();
    impatient.collective_timeout = milliseconds(600);
    const auto world = make_communicator(info, meeting, impatient);
    world->barrier().wait();
    if (info.rank == 0) std::this_thread::sleep_for(milliseconds(1500));
    world->all_gather(Tensor::zeros({12}), Tensor::zeros({4})).wait();
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("[all_gather #2, 16 bytes] rank 0 lives, but did not come within 0.6 s"), std::string::npos)
        << error;
  }
}

TEST_P(Transports, ALeavingRankIsNamed) {
  const auto errors = run_ranks(3, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    const auto world = make_communicator(info, meeting, options());
    world->barrier().wait();
    if (info.rank != 1) world->all_reduce(Tensor::zeros({100000})).wait();
  });
  EXPECT_EQ(errors[1], "");
  for (const size_t r : {0u, 2u}) EXPECT_NE(errors[r].find("rank 1 has left"), std::string::npos) << errors[r];
}

TEST_P(Transports, AbortReleasesEverybody) {
  const auto errors = run_ranks(3, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    const auto world = make_communicator(info, meeting, options());
    world->barrier().wait();
    const auto start = Clock::now();
    std::thread other([&] {
      std::this_thread::sleep_for(milliseconds(300));
      if (info.rank == 2) world->abort("the loss is not finite");
    });
    const CommEvent first = info.rank == 2 ? CommEvent() : world->all_reduce(Tensor::zeros({10}));
    std::string error, later;
    try {
      first.wait();
      if (info.rank == 2) std::this_thread::sleep_for(milliseconds(500));
      world->barrier().wait();
    } catch (const Error& e) {
      error = e.what();
    }
    try {
      world->barrier();
    } catch (const Error& e) {
      later = e.what();
    }
    other.join();
    ONDOL_CHECK(Clock::now() - start < milliseconds(1500), "it took too long");
    ONDOL_CHECK(later == error, "later calls say \"", later, "\"");
    throw Error(error);
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "rank 2 aborted: the loss is not finite");
}

TEST_P(Transports, DifferentCallsAreNoticed) {
  const auto errors = run_ranks(2, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    const auto world = make_communicator(info, meeting, options());
    world->barrier().wait();
    if (info.rank == 0) world->all_reduce(Tensor::zeros({10})).wait();
    if (info.rank == 1) world->all_reduce(Tensor::zeros({10}, DType::f64)).wait();
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("calls all_reduce #2, "), std::string::npos) << error;
    EXPECT_NE(error.find("all ranks must make the same calls"), std::string::npos) << error;
  }
}

TEST_P(Transports, AMissingRankIsNamed) {
  const auto errors = run_ranks(3, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    CommunicatorOptions impatient = options();
    impatient.connect_timeout = milliseconds(500);
    if (info.rank != 2) make_communicator(info, meeting, impatient);
  });
  EXPECT_NE(errors[0].find("rank/2"), std::string::npos) << errors[0];
  EXPECT_NE(errors[1], "");
}

TEST(Communicator, AllRanksMustWantTheSame) {
  const auto errors = run_ranks(2, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    make_communicator(info, meeting, {.transport = info.rank == 0 ? CommTransport::shm : CommTransport::tcp});
  });
  for (const std::string& error : errors) {
    EXPECT_EQ(error, "rank 1 wants deterministic transport tcp for CPUs, rank 0 deterministic shm for CPUs");
  }
}

TEST(Communicator, SharedMemoryIsTheChoiceOnOneHost) {
  EXPECT_EQ(run_ranks(2,
                      [](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
                        const auto world = make_communicator(info, meeting);
                        ONDOL_CHECK(world->transport() == CommTransport::shm, "another transport");
                        world->barrier().wait();
                      }),
            no_errors(2));
}

TEST(Communicator, NamesOfTransports) {
  EXPECT_EQ(comm_transport_from_name("tcp"), CommTransport::tcp);
  EXPECT_STREQ(comm_transport_name(CommTransport::automatic), "auto");
  EXPECT_NE(error_of([] { comm_transport_from_name("infiniband"); }).find("infiniband"), std::string::npos);
}

}  // namespace
}  // namespace ondol
