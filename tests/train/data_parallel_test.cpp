#include <algorithm>

#include <gtest/gtest.h>

#include <ondol/train/trainer.h>

#include "train/rank_runs.h"
#include "train/ranks.h"

namespace ondol {
namespace {

using testing::expect_same_run;
using testing::run_ranks;
using testing::TemporaryDirectory;
using testing::tiny_config;
using testing::train_on;

TEST(MicroBatchShares, AreWholeSubtreesAndCoverTheBatch) {
  for (int64_t count = 1; count <= 40; ++count) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const MicroBatchShare share = share_of_micro_batches(count, rank, ranks);
        EXPECT_EQ(share.size & (share.size - 1), 0);
        EXPECT_EQ(share.first, std::min(rank * share.size, count));
        EXPECT_EQ(share.first, next);
        EXPECT_EQ(share.stride, 1);
        EXPECT_EQ(share.count > 0, rank < share.contributors);
        next = share.first + share.count;
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(MicroBatchShares, DealtOnesCoverEveryRound) {
  for (int64_t count = 1; count <= 40; ++count) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      std::vector<int> seen(static_cast<size_t>(count));
      for (int rank = 0; rank < ranks; ++rank) {
        const MicroBatchShare share = dealt_micro_batches(count, rank, ranks);
        EXPECT_EQ(share.size, (count + ranks - 1) / ranks);
        EXPECT_LE(share.count, share.size);
        for (int64_t round = 0; round < share.size; ++round) {
          EXPECT_EQ(round < share.count, rank < contributors_in_round(count, round, ranks));
          if (round < share.count) ++seen[static_cast<size_t>(share.index(round))];
        }
      }
      EXPECT_EQ(seen, std::vector<int>(static_cast<size_t>(count), 1));
    }
  }
}

struct Case {
  const char* dtype;
  int micro_batch_size;
};

class DataParallel : public ::testing::TestWithParam<Case> {
 protected:
  TrainConfig config(const std::string& run) const {
    return tiny_config(directory, run,
                       {std::string("train.dtype=") + GetParam().dtype, "train.batch_size=6",
                        concat("train.micro_batch_size=", GetParam().micro_batch_size)});
  }
  std::vector<std::string> train(int ranks, const std::string& run, int64_t stop = 0) const {
    return train_on(
        ranks, [&](int) { return config(run); }, stop);
  }
  void SetUp() override { testing::write_rank_inputs(directory); }

  TemporaryDirectory directory;
};

INSTANTIATE_TEST_SUITE_P(Shapes, DataParallel, ::testing::Values(Case{"f32", 1}, Case{"bf16", 1}, Case{"f32", 3}),
                         [](const auto& tested) {
                           return concat(tested.param.dtype, "MicroBatchesOf", tested.param.micro_batch_size);
                         });

TEST_P(DataParallel, AnyNumberOfRanksGivesTheSameBytes) {
  ASSERT_EQ(train(1, "one"), std::vector<std::string>(1));
  for (const int ranks : {2, 3, 4}) {
    const std::string run = concat("on", ranks);
    ASSERT_EQ(train(ranks, run), std::vector<std::string>(static_cast<size_t>(ranks)));
    expect_same_run(directory, "one", run);
  }
}

TEST_P(DataParallel, ARunGoesOnWithAnotherNumberOfRanks) {
  ASSERT_EQ(train(1, "whole"), std::vector<std::string>(1));
  ASSERT_EQ(train(4, "parts", 5), std::vector<std::string>(4));
  ASSERT_EQ(train(2, "parts", 7), std::vector<std::string>(2));
  ASSERT_EQ(train(3, "parts", 10), std::vector<std::string>(3));
  ASSERT_EQ(train(1, "parts"), std::vector<std::string>(1));
  expect_same_run(directory, "whole", "parts");
}

class RanksThatFail : public ::testing::Test {
 protected:
  void SetUp() override { testing::write_rank_inputs(directory); }
  TemporaryDirectory directory;
};

TEST_F(RanksThatFail, OtherConfigurationsAreRefused) {
  const auto errors = train_on(3, [&](int rank) {
    return tiny_config(directory, "run", {concat("optimizer.learning_rate=", rank == 1 ? "1e-3" : "1e-2")});
  });
  for (const std::string& error : errors) {
    EXPECT_EQ(error, "the processes of the run do not agree: the configuration of rank 1 is not that of rank 0");
  }
}

TEST_F(RanksThatFail, AnErrorOfOneEndsAllAndIsNamed) {
  struct Failing : TrainObserver {
    void on_step(const StepMetrics& metrics) override {
      if (metrics.step == 3) throw Error("out of luck");
    }
  };
  const auto errors = run_ranks(3, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Failing failing;
    Trainer(tiny_config(directory, "run"),
            {.device = "cpu", .communicator = world.get(), .observer = info.rank == 1 ? &failing : nullptr})
        .run();
  });
  EXPECT_EQ(errors[1], "out of luck");
  for (const int rank : {0, 2}) {
    EXPECT_NE(errors[static_cast<size_t>(rank)].find("out of luck"), std::string::npos)
        << errors[static_cast<size_t>(rank)];
  }
}

TEST_F(RanksThatFail, LossesThatAreNotFiniteStopAllBeforeTheUpdate) {
  const auto errors = train_on(2, [&](int) {
    return tiny_config(directory, "run", {"optimizer.learning_rate=1e30", "train.max_grad_norm=0"});
  });
  EXPECT_NE(errors[0].find("training stopped at step"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[0], errors[1]);
}

}  // namespace
}  // namespace ondol
