#include <algorithm>

#include <gtest/gtest.h>

#include <ondol/train/trainer.h>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/ranks.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

using testing::expect_same_run;
using testing::run_ranks;
using testing::TemporaryDirectory;
using testing::tiny_config;

/// Layers that are large enough for buckets of their own, which are sent while the backward goes on.
void write_inputs(const TemporaryDirectory& directory) {
  testing::write_tiny_inputs(directory);
  directory.write("model.json", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64,
      "n_positions": 32, "n_embd": 96, "n_layer": 2, "n_head": 2, "activation_function": "gelu_new",
      "layer_norm_epsilon": 1e-5, "initializer_range": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
      "attn_pdrop": 0.1})");
}

/// Asks for an end from within step `last`, on one rank.
struct StopWithin : TrainObserver {
  explicit StopWithin(int64_t step) : last(step) {}
  void on_step(const StepMetrics& metrics) override { stop = metrics.step == last - 1; }
  int64_t last;
  std::atomic<bool> stop{false};
};

/// By rank: what went wrong, "" for nothing. With `stop` the last rank gets a signal in that step.
std::vector<std::string> train_on(int ranks, const std::function<TrainConfig(int rank)>& config, int64_t stop = 0) {
  return run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    StopWithin observer(info.rank + 1 == info.size ? stop : 0);
    Trainer trainer(config(info.rank),
                    {.device = "cpu", .stop = &observer.stop, .communicator = world.get(), .observer = &observer});
    const TrainResult result = trainer.run();
    ONDOL_CHECK(result.finished == (stop == 0), "finished is ", result.finished, " at step ", result.step);
    ONDOL_CHECK(stop == 0 || result.step == stop, "stopped at step ", result.step);
    ONDOL_CHECK(!result.directory.empty(), "no directory");
  });
}

TEST(MicroBatchShares, AreWholeSubtreesAndCoverTheBatch) {
  for (int64_t count = 1; count <= 40; ++count) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const MicroBatchShare share = share_of_micro_batches(count, rank, ranks);
        EXPECT_EQ(share.size & (share.size - 1), 0);
        EXPECT_EQ(share.begin, std::min(rank * share.size, count));
        EXPECT_EQ(share.begin, next);
        EXPECT_EQ(share.begin < share.end, rank < share.contributors);
        next = share.end;
      }
      EXPECT_EQ(next, count);
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
  void SetUp() override { write_inputs(directory); }

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
  void SetUp() override { write_inputs(directory); }
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
