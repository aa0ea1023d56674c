// What a rank tells the others with every step besides its losses, and what they make of it.
//
//   RankTimes times(grid);
//   times.begin();                                    // a step starts
//   ...
//   times.end(tokens_of_own_share, seconds);          // its result is there
//   RankReport mine = times.report();                 // goes with the next step (StepArguments::report)
//   std::vector<RankMetrics> all = rank_metrics(result.ranks);
#pragma once

#include <vector>

#include <ondol/distributed/communicator.h>
#include <ondol/train/trainer.h>

#include "train/rank_grid.h"

namespace ondol {

/// Travels beside the losses, as finite floats. Numbers of a step are those of the one before, whose end is known.
struct RankReport {
  float stop = 0.0f;                   // 1: this rank wants the run to end
  float part_is_written = 0.0f;        // 1: its part of the checkpoint under way is on disk
  float tokens = 0.0f;                 // of its own share
  float seconds = 0.0f;                // 0: there was no step before
  float communication_seconds = 0.0f;  // in collectives
  float exposed_seconds = 0.0f;        // of the step, waiting for collectives
  float awaited_rank = 0.0f;           // the one that it waited for longest
  float awaited_seconds = 0.0f;
};

constexpr int64_t kRankReportFloats = sizeof(RankReport) / sizeof(float);
static_assert(sizeof(RankReport) == kRankReportFloats * sizeof(float));

/// One for each rank; nothing before the second step of a run.
std::vector<RankMetrics> rank_metrics(const std::vector<RankReport>& reports);

/// How long this rank takes for its steps, and what communication has of it.
class RankTimes {
 public:
  /// The grid must outlive this; it may change before the first step.
  explicit RankTimes(const RankGrid& grid) : grid_(grid) {}

  /// Steps may begin before earlier ones have ended.
  void begin();
  void end(int64_t tokens, double seconds);
  /// Of the step that ended last; empty for one process.
  const RankReport& report() const { return report_; }

 private:
  const RankGrid& grid_;
  CommStatistics before_;
  int under_way_ = 0;
  RankReport report_;
};

}  // namespace ondol
