// What the metrics of a run on several processes say of each of them.
#include <gtest/gtest.h>

#include <thread>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/rank_report.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

TEST(RankReports, BecomeMetricsByRank) {
  // Rank 1 works for all of the 2 s, the others wait for it for half of them; rank 2 waits most for rank 0.
  const std::vector<RankReport> reports = {{.tokens = 100,
                                            .seconds = 2.0f,
                                            .communication_seconds = 1.5f,
                                            .exposed_seconds = 1.0f,
                                            .awaited_rank = 1,
                                            .awaited_seconds = 1.0f},
                                           {.tokens = 100, .seconds = 2.0f, .communication_seconds = 0.25f},
                                           {.tokens = 50,
                                            .seconds = 2.0f,
                                            .communication_seconds = 0.5f,
                                            .exposed_seconds = 1.0f,
                                            .awaited_rank = 0,
                                            .awaited_seconds = 0.25f}};
  const std::vector<RankMetrics> metrics = rank_metrics(reports);
  ASSERT_EQ(metrics.size(), 3u);
  EXPECT_EQ(metrics[0].tokens_per_second, 100.0);
  EXPECT_EQ(metrics[1].tokens_per_second, 50.0);
  EXPECT_EQ(metrics[2].tokens_per_second, 50.0);
  EXPECT_EQ(metrics[0].hidden_seconds, 0.5);
  EXPECT_EQ(metrics[1].hidden_seconds, 0.25);
  EXPECT_EQ(metrics[2].hidden_seconds, 0.0);
  EXPECT_EQ(metrics[0].late_seconds, 0.25);
  EXPECT_EQ(metrics[1].late_seconds, 1.0);
  EXPECT_EQ(metrics[2].late_seconds, 0.0);
  EXPECT_EQ(straggler(metrics), std::optional<size_t>(1));
}

TEST(RankReports, WhatIsWaitedForBetweenStepsIsNotTheirs) {
  const std::vector<RankMetrics> metrics = rank_metrics({{.seconds = 0.5f,
                                                          .communication_seconds = 3.0f,
                                                          .exposed_seconds = 3.0f,
                                                          .awaited_rank = 1,
                                                          .awaited_seconds = 3.0f},
                                                         {.seconds = 0.25f}});
  ASSERT_EQ(metrics.size(), 2u);
  EXPECT_EQ(metrics[0].exposed_seconds, 0.5);
  EXPECT_EQ(metrics[1].late_seconds, 0.5);
  EXPECT_EQ(longest_seconds(metrics), 0.5);
  EXPECT_EQ(straggler(metrics), std::optional<size_t>(1));
}

TEST(RankReports, NothingIsKnownOfOneProcessOrBeforeTheFirstStepHasEnded) {
  EXPECT_TRUE(rank_metrics({{.tokens = 5, .seconds = 1.0f}}).empty());
  EXPECT_TRUE(rank_metrics({{.tokens = 5}, {.tokens = 5}}).empty());
  EXPECT_FALSE(straggler({}).has_value());
}

TEST(RankReports, RanksThatWaitForEachOtherAreNoStragglers) {
  EXPECT_FALSE(straggler({{.seconds = 1.0, .exposed_seconds = 0.3, .late_seconds = 0.3},
                          {.seconds = 1.0, .exposed_seconds = 0.3, .late_seconds = 0.3}})
                   .has_value());
  EXPECT_FALSE(
      straggler({{.seconds = 1.0, .late_seconds = 0.05}, {.seconds = 1.0, .exposed_seconds = 0.05}}).has_value());
}

/// Dawdles between steps.
struct Dawdling : TrainObserver {
  void on_step(const StepMetrics&) override { std::this_thread::sleep_for(std::chrono::milliseconds(60)); }
};

TEST(RankReports, AreInTheMetricsOfARunAndNameTheLateRank) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto errors = testing::run_ranks(3, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Dawdling dawdling;
    const TrainConfig config = testing::tiny_config(directory, "run", {"evaluation.every=0", "train.batch_size=6"});
    Trainer(config, {.device = "cpu", .communicator = world.get(), .observer = info.rank == 1 ? &dawdling : nullptr})
        .run();
  });
  ASSERT_EQ(errors, std::vector<std::string>(3));
  int64_t steps = 0, named = 0;
  for (const nlohmann::json& line : testing::metrics_of(directory / "run")) {
    if (line["step"] == 1) {
      EXPECT_FALSE(line.contains("ranks"));
      continue;
    }
    ++steps;
    ASSERT_TRUE(line.contains("ranks")) << line;
    const nlohmann::json& ranks = line["ranks"];
    for (const char* key : {"seconds", "tokens_per_second", "communication_seconds", "exposed_seconds",
                            "hidden_seconds", "late_seconds"}) {
      ASSERT_EQ(ranks[key].size(), 3u) << key;
      for (const nlohmann::json& value : ranks[key]) EXPECT_GE(value.get<double>(), 0.0) << key;
    }
    named += ranks.value("straggler", -1) == 1 ? 1 : 0;
  }
  EXPECT_EQ(steps, 11);
  EXPECT_GE(named, 6);  // of ten steps that began late
}

}  // namespace
}  // namespace ondol
