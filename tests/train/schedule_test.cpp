#include <ondol/train/schedule.h>

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

TEST(Schedule, CosineMatchesPublishedTable) {
  const std::string data = testing::test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  std::ifstream in(data + "/vectors/optim/cosine_schedule.json");
  const auto known = nlohmann::json::parse(in);
  const ScheduleConfig schedule{.type = "cosine",
                                .warmup_steps = known["warmup_iters"],
                                .min_learning_rate = known["min_lr"],
                                .steps = known["cosine_cycle_iters"]};
  ASSERT_EQ(known["expected"].size(), 25u);
  for (size_t step = 0; step < known["expected"].size(); ++step) {
    EXPECT_NEAR(learning_rate_at(schedule, known["max_lr"], static_cast<int64_t>(step)),
                known["expected"][step].get<double>(), 1e-15)
        << "step " << step;
  }
}

/// transformers.get_polynomial_decay_schedule_with_warmup(10, 100, lr_end=0.1, power=2).
TEST(Schedule, PolynomialMatchesTransformers) {
  const ScheduleConfig schedule{
      .type = "polynomial", .warmup_steps = 10, .min_learning_rate = 0.1, .steps = 100, .power = 2.0};
  const std::pair<int64_t, double> known[] = {{5, 0.5},    {10, 1.0},  {30, 0.6444444444444445},
                                              {55, 0.325}, {100, 0.1}, {99, 0.10011111111111111}};
  for (const auto& [step, rate] : known) EXPECT_NEAR(learning_rate_at(schedule, 1.0, step), rate, 1e-12) << step;
}

/// transformers.get_cosine_with_hard_restarts_schedule_with_warmup(10, 100, num_cycles=3) at a minimum of 0. A
/// cycle has (100 - 10) / 3 steps, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts' T_0.
TEST(Schedule, CosineRestartsMatchesTransformers) {
  const ScheduleConfig schedule{.type = "cosine_restarts", .warmup_steps = 10, .steps = 100, .timescale = 30};
  const std::pair<int64_t, double> known[] = {{5, 0.5},
                                              {10, 1},
                                              {25, 0.5},
                                              {39, 0.0027390523158633},
                                              {40, 1},
                                              {41, 0.9972609476841368},
                                              {60, 0.2499999999999999},
                                              {70, 1},
                                              {85, 0.5},
                                              {99, 0.0027390523158633},
                                              {100, 0}};
  for (const auto& [step, rate] : known) EXPECT_NEAR(learning_rate_at(schedule, 1.0, step), rate, 1e-12) << step;
  const ScheduleConfig raised{
      .type = "cosine_restarts", .warmup_steps = 0, .min_learning_rate = 0.2, .steps = 90, .timescale = 30};
  EXPECT_NEAR(learning_rate_at(raised, 1.0, 15), 0.6, 1e-12);
  EXPECT_NEAR(learning_rate_at(raised, 1.0, 30), 1.0, 1e-12);
  EXPECT_NEAR(learning_rate_at(raised, 1.0, 90), 0.2, 1e-12);
}

/// Howard & Ruder 2018, equation 3, for T = 1000: from 1/32 of the peak up in 100 steps, down in 900.
TEST(Schedule, SlantedTriangular) {
  const ScheduleConfig schedule{.type = "slanted_triangular", .steps = 1000};
  const std::pair<int64_t, double> known[] = {
      {1, 0.03125}, {51, 0.515625}, {101, 1.0}, {551, 0.515625}, {1000, 0.03232638888888884}};
  for (const auto& [step, rate] : known) EXPECT_NEAR(learning_rate_at(schedule, 1.0, step), rate, 1e-12) << step;
}

TEST(Schedule, ConstantWithWarmup) {
  const ScheduleConfig schedule{.type = "constant", .warmup_steps = 4, .steps = 10};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2.0, 1), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2.0, 3), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2.0, 4), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2.0, 1000), 2.0);
}

TEST(Schedule, LinearEndsAtTheMinimum) {
  const ScheduleConfig schedule{.type = "linear", .warmup_steps = 2, .min_learning_rate = 0.1, .steps = 12};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.1, 2), 1.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.1, 7), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.1, 12), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.1, 13), 0.1);
}

TEST(Schedule, WarmupStableDecay) {
  ScheduleConfig schedule{.type = "wsd", .warmup_steps = 10, .steps = 100, .decay_steps = 20};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 5), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 50), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 80), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 85), 0.75);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 100), 0.0);
  schedule.decay_shape = "sqrt";
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 85), 0.5);
  schedule.decay_shape = "cosine";
  EXPECT_NEAR(learning_rate_at(schedule, 1.0, 85), 0.5 * (1 + std::sqrt(0.5)), 1e-15);
}

TEST(Schedule, InverseSquareRoot) {
  const ScheduleConfig schedule{
      .type = "inverse_sqrt", .warmup_steps = 100, .min_learning_rate = 0.3, .steps = 5000, .timescale = 100};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 400), 0.5);  // sqrt(100 / 400), as in the Transformer paper
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 4000), 0.3);
}

TEST(Schedule, UnknownNamesAreRefused) {
  EXPECT_THROW(learning_rate_at({.type = "cosin", .steps = 3}, 1.0, 1), UsageError);
  EXPECT_THROW(learning_rate_at({.type = "wsd", .steps = 9, .decay_steps = 9, .decay_shape = "x"}, 1.0, 3), UsageError);
}

}  // namespace
}  // namespace ondol
