// The communicator over NCCL against a fake that notes its calls and moves bytes between processes, with emulated
// kernels.
#include <cmath>
#include <csignal>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>

#include <ondol/distributed/communicator.h>

#include "fake_nccl.h"
#include "support/error_of.h"
#include "support/ranks.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::fake_nccl;
using testing::run_ranks;
using testing::run_ranks_with;
using Meeting = std::shared_ptr<Rendezvous>;
using Lines = std::vector<std::string>;

constexpr Device kGpu{DeviceType::cuda, 0};

CommunicatorOptions options(bool deterministic = true) { return {.device = kGpu, .deterministic = deterministic}; }

void expect_calls(const std::string& what, const Lines& wanted) {
  const std::lock_guard lock(fake_nccl().mutex);
  std::string got, should;
  for (const std::string& line : fake_nccl().calls) got += "\n  " + line;
  for (const std::string& line : wanted) should += "\n  " + line;
  ONDOL_CHECK(got == should, what, " calls", got, "\ninstead of", should);
  fake_nccl().calls.clear();
}

bool was_called(const std::string& call) {
  const std::lock_guard lock(fake_nccl().mutex);
  for (const std::string& line : fake_nccl().calls) {
    if (line == call) return true;
  }
  return false;
}

TEST(Nccl, CallsOfEveryCollective) {
  EXPECT_EQ(
      run_ranks(
          2,
          [](const RankInfo& info, const Meeting& meeting) {
            fake_nccl().meeting = meeting;
            auto world = make_communicator(info, meeting, options());
            ONDOL_CHECK(world->transport() == CommTransport::nccl, "another transport");
            const Tensor x = Tensor::full({8}, info.rank + 1, DType::f32, kGpu);
            const Tensor y = Tensor::zeros({16}, DType::f32, kGpu);
            if (info.rank == 1) {  // the same calls; what rank 0 asks for is looked at
              for (const Tensor& t : {x, x.narrow(0, 0, 4)}) world->all_reduce(t).wait();
              world->reduce_scatter(x, y).wait();
              world->all_gather(y, x).wait();
              world->broadcast(x, 1).wait();
              world->recv(x, 0).wait();
              world->send(x, 0).wait();
              world->barrier().synchronize();
              return;
            }
            expect_calls("the start", {"make stream 1 of priority -5", "get id", "init rank 0 of 2, not blocking"});
            const Lines before = {"record event 1 on stream 0", "stream 1 waits for event 1"};
            const CommEvent sum = world->all_reduce(x);
            expect_calls("all_reduce", {"record event 1 on stream 0", "stream 1 waits for event 1",
                                        // memory for what arrives
                                        "record event 1 on stream 0", "stream 1 waits for event 1", "group start",
                                        "send 16 u8 to 1 on stream 1", "receive 16 u8 from 1 on stream 1", "group end",
                                        "group start", "send 16 u8 to 1 on stream 1",
                                        "receive 16 u8 from 1 on stream 1", "group end", "record event 2 on stream 1"});
            sum.wait();
            expect_calls("wait", {"stream 0 waits for event 2"});
            ONDOL_CHECK(sum.done(), "done");
            ONDOL_CHECK(x.to_vector<float>() == std::vector<float>(8, 3), "wrong sum");
            world->all_reduce(x.narrow(0, 0, 4)).wait();
            expect_calls("a second all_reduce",
                         {"record event 1 on stream 0", "stream 1 waits for event 1", "group start",
                          "send 8 u8 to 1 on stream 1", "receive 8 u8 from 1 on stream 1", "group end", "group start",
                          "send 8 u8 to 1 on stream 1", "receive 8 u8 from 1 on stream 1", "group end",
                          "record event 3 on stream 1", "stream 0 waits for event 3"});
            world->reduce_scatter(x, y).wait();
            expect_calls("reduce_scatter",
                         {"record event 1 on stream 0", "stream 1 waits for event 1", "record event 1 on stream 0",
                          "stream 1 waits for event 1", "record event 1 on stream 0", "stream 1 waits for event 1",
                          "group start", "send 32 u8 to 1 on stream 1", "receive 32 u8 from 1 on stream 1", "group end",
                          "record event 4 on stream 1", "stream 0 waits for event 4"});
            world->all_gather(y, x).wait();
            expect_calls("all_gather",
                         {"record event 1 on stream 0", "stream 1 waits for event 1", "all_gather 32 u8 on stream 1",
                          "record event 5 on stream 1", "stream 0 waits for event 5"});
            world->broadcast(x, 1).wait();
            expect_calls("broadcast", {"record event 1 on stream 0", "stream 1 waits for event 1",
                                       "broadcast 32 u8 in place from 1 on stream 1", "record event 6 on stream 1",
                                       "stream 0 waits for event 6"});
            world->send(x, 1).wait();
            world->recv(x, 1).wait();
            expect_calls("send and recv",
                         {"record event 1 on stream 0", "stream 1 waits for event 1", "send 32 u8 to 1 on stream 1",
                          "record event 7 on stream 1", "stream 0 waits for event 7", "record event 1 on stream 0",
                          "stream 1 waits for event 1", "receive 32 u8 from 1 on stream 1",
                          "record event 8 on stream 1", "stream 0 waits for event 8"});
            world->barrier().synchronize();
            expect_calls("barrier", {"record event 1 on stream 0", "stream 1 waits for event 1",
                                     "all_reduce 1 f32 sum on stream 1", "record event 9 on stream 1"});
            ONDOL_CHECK(world->statistics().collectives == 8, "collectives are not counted");
            ONDOL_CHECK(world->last_collective() == "barrier #8, 0 bytes", world->last_collective());
            world.reset();
            expect_calls("the end", {"destroy"});
          }),
      Lines(2));
}

TEST(Nccl, LibrarysOwnReductions) {
  EXPECT_EQ(run_ranks(2,
                      [](const RankInfo& info, const Meeting& meeting) {
                        fake_nccl().meeting = meeting;
                        const auto world = make_communicator(info, meeting, options(false));
                        const Tensor x = Tensor::full({6}, info.rank + 1, DType::bf16, kGpu);
                        const Tensor half = Tensor::zeros({3}, DType::bf16, kGpu);
                        const Tensor counts = Tensor::from_vector<int64_t>({info.rank + 5}, {1}, kGpu);
                        fake_nccl().calls.clear();
                        world->all_reduce(x, {ReduceOp::max, -1}).wait();
                        ONDOL_CHECK(was_called("all_reduce 6 bf16 max on stream 1"), "max");
                        world->all_reduce(x).wait();
                        ONDOL_CHECK(was_called("all_reduce 6 bf16 sum on stream 1"), "sum");
                        world->reduce_scatter(half, x).wait();
                        ONDOL_CHECK(was_called("reduce_scatter 3 bf16 sum on stream 1"), "reduce_scatter");
                        world->all_reduce(counts, {ReduceOp::sum, 1}).wait();
                        ONDOL_CHECK(counts.to_vector<int64_t>()[0] == 5, "a rank without a contribution has added one");
                        ONDOL_CHECK(half.to(DType::f32).to_vector<float>() == std::vector<float>(3, 8), "wrong sum");
                        ONDOL_CHECK(!was_called("group start"), "messages of our own");
                      }),
            Lines(2));
}

float value(int rank, int64_t i) {
  const uint32_t bits = static_cast<uint32_t>(i * 2654435761u + static_cast<uint32_t>(rank) * 40503u);
  return std::ldexp(static_cast<float>(bits >> 8) / (1 << 24) - 0.5f, static_cast<int>(bits % 11));
}

/// Left: the largest power of two of ranks below the count.
float tree(int first, int count, int64_t i) {
  if (count == 1) return value(first, i);
  int left = 1;
  while (left * 2 < count) left *= 2;
  return tree(first, left, i) + tree(first + left, count - left, i);
}

TEST(Nccl, SumsAreTheTreesForAnyNumberOfRanks) {
  for (const int size : {2, 3, 4}) {
    EXPECT_EQ(run_ranks(size,
                        [&](const RankInfo& info, const Meeting& meeting) {
                          fake_nccl().meeting = meeting;
                          const auto world = make_communicator(info, meeting, options());
                          for (const int64_t count : {0, 1, 17, 2000}) {
                            for (int contributors = 0; contributors <= size; ++contributors) {
                              std::vector<float> values;
                              for (int64_t i = 0; i < count * size; ++i) values.push_back(value(info.rank, i));
                              const Tensor in = Tensor::from_vector(values, {count * size}, kGpu);
                              const Tensor sum = Tensor::zeros({count * size}, DType::f32, kGpu);
                              const Tensor part = Tensor::zeros({count}, DType::f32, kGpu);
                              world->reduce_scatter(part, in, {ReduceOp::sum, contributors}).wait();
                              world->all_reduce(sum, in, {ReduceOp::sum, contributors}).wait();
                              const std::vector<float> sums = sum.to_vector<float>(), mine = part.to_vector<float>();
                              for (int64_t i = 0; i < count * size; ++i) {
                                const float wanted = contributors == 0 ? 0 : tree(0, contributors, i);
                                ONDOL_CHECK(sums[static_cast<size_t>(i)] == wanted, "all_reduce of ", count * size,
                                            ", ", contributors, " contributors, element ", i);
                                const int64_t own = i - info.rank * count;
                                ONDOL_CHECK(own < 0 || own >= count || mine[static_cast<size_t>(own)] == wanted,
                                            "reduce_scatter of ", count, ", ", contributors, " contributors, element ",
                                            i);
                              }
                              ONDOL_CHECK(in.to_vector<float>() == values, "the input has changed");
                            }
                          }
                          const auto pairs = world->split(info.rank / 2);
                          const Tensor x = Tensor::full({3}, 1, DType::f32, kGpu);
                          pairs->all_reduce(x).wait();
                          ONDOL_CHECK(x.to_vector<float>()[0] == static_cast<float>(pairs->size()), "sum of a group");
                          world->barrier().synchronize();
                        }),
              Lines(static_cast<size_t>(size)));
  }
}

TEST(Nccl, SumsOfF64AreMadeInF64) {
  for (const int size : {1, 2, 3, 4}) {
    EXPECT_EQ(run_ranks(size,
                        [](const RankInfo& info, const Meeting& meeting) {
                          fake_nccl().meeting = meeting;
                          CommunicatorOptions own = options();
                          own.transport = CommTransport::nccl;
                          const auto world = make_communicator(info, meeting, own);
                          const Tensor x = Tensor::full({5}, 1.0 + std::ldexp(info.rank + 1.0, -40), DType::f64, kGpu);
                          world->all_reduce(x).wait();
                          const int n = world->size();
                          const double wanted = n + std::ldexp(n * (n + 1) / 2, -40);
                          ONDOL_CHECK(x.to_vector<double>() == std::vector<double>(5, wanted), "another sum");
                        }),
              Lines(static_cast<size_t>(size)));
  }
}

TEST(Nccl, ADeadRankEndsTheWait) {
  const auto run = run_ranks_with(
      2,
      [](const RankInfo& info, const Meeting& meeting) {
        const auto world = make_communicator(info, meeting, options());
        world->all_reduce(Tensor::zeros({4}, DType::f32, kGpu)).wait();
        if (info.rank == 1) {
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
          raise(SIGKILL);
        }
        {
          const std::lock_guard lock(fake_nccl().mutex);
          fake_nccl().events_happen = false;
        }
        const std::string error =
            error_of([&] { world->all_reduce(Tensor::zeros({4}, DType::f32, kGpu)).synchronize(); });
        // Where the death was seen before the call, its error may be there before the watching thread has aborted.
        for (int i = 0; i < 500 && !was_called("abort"); ++i) {
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        ONDOL_CHECK(was_called("abort"), "NCCL was not aborted");
        ONDOL_CHECK(error_of([&] { world->barrier(); }) == error, "later calls do not fail");
        throw Error(error);
      },
      [](const std::vector<int>&) {});
  EXPECT_NE(run.errors[0].find("rank 1 has died"), std::string::npos) << run.errors[0];
  EXPECT_NE(run.errors[0].find("[all_reduce #"), std::string::npos) << run.errors[0];
  EXPECT_LT(run.seconds[0], run.seconds[1] + 5);
}

TEST(Nccl, AHungCallEndsInTime) {
  for (const bool one_is_late : {false, true}) {
    const auto errors = run_ranks(3, [&](const RankInfo& info, const Meeting& meeting) {
      CommunicatorOptions impatient = options();
      impatient.collective_timeout = std::chrono::milliseconds(400);
      const auto world = make_communicator(info, meeting, impatient);
      fake_nccl().events_happen = false;
      if (one_is_late && info.rank == 1) std::this_thread::sleep_for(std::chrono::seconds(4));
      world->all_gather(Tensor::zeros({12}, DType::f32, kGpu), Tensor::zeros({4}, DType::f32, kGpu)).synchronize();
    });
    const std::string why = one_is_late ? "rank 1 lives, but did not come within 0.4 s" : "all ranks came";
    for (const std::string& error : errors) {
      EXPECT_NE(error.find(why), std::string::npos) << error;
      EXPECT_NE(error.find("[all_gather #1, 16 bytes]"), std::string::npos) << error;
    }
  }
}

TEST(Nccl, ItsOwnErrorsEndTheWait) {
  const auto errors = run_ranks(1, [](const RankInfo& info, const Meeting& meeting) {
    CommunicatorOptions alone = options();
    alone.transport = CommTransport::nccl;
    const auto world = make_communicator(info, meeting, alone);
    fake_nccl().events_happen = false;
    const CommEvent event = world->barrier();
    {
      const std::lock_guard lock(fake_nccl().mutex);
      fake_nccl().asynchronous_error = ncclRemoteError;
    }
    event.synchronize();
  });
  EXPECT_NE(errors[0].find("NCCL on rank 0: remote process exited"), std::string::npos) << errors[0];
}

}  // namespace
}  // namespace ondol
