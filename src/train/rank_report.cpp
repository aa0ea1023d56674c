#include "train/rank_report.h"

#include <algorithm>

namespace ondol {

std::vector<RankMetrics> rank_metrics(const std::vector<RankReport>& reports) {
  if (reports.size() < 2 || reports.front().seconds == 0.0f) return {};
  std::vector<RankMetrics> metrics;
  for (const RankReport& report : reports) {
    RankMetrics rank;
    // What was waited for between steps, at a checkpoint for example, is not the step's.
    const double seconds = report.seconds, exposed = std::min<double>(report.exposed_seconds, seconds);
    rank.seconds = seconds;
    rank.communication_seconds = report.communication_seconds;
    rank.exposed_seconds = exposed;
    rank.hidden_seconds = std::max(0.0, rank.communication_seconds - exposed);
    if (seconds > exposed) rank.tokens_per_second = report.tokens / (seconds - exposed);
    metrics.push_back(rank);
  }
  for (const RankReport& report : reports) {
    RankMetrics& awaited = metrics.at(static_cast<size_t>(report.awaited_rank));
    const double waited = std::min(report.awaited_seconds, report.seconds);
    awaited.late_seconds = std::max(awaited.late_seconds, waited);
  }
  return metrics;
}

void RankTimes::begin() {
  if (under_way_++ == 0) before_ = grid_.statistics();
}

void RankTimes::end(int64_t tokens, double seconds) {
  --under_way_;
  if (grid_.all().size() == 1) return;
  const CommStatistics now = grid_.statistics();
  report_.tokens = static_cast<float>(tokens);
  report_.seconds = static_cast<float>(seconds);
  report_.communication_seconds = static_cast<float>(now.busy_seconds - before_.busy_seconds);
  report_.exposed_seconds = static_cast<float>(now.exposed_seconds - before_.exposed_seconds);
  size_t awaited = 0;
  double longest = 0.0;
  for (size_t rank = 0; rank < std::min(now.late_seconds.size(), before_.late_seconds.size()); ++rank) {
    const double late = now.late_seconds[rank] - before_.late_seconds[rank];
    if (late > longest) {
      awaited = rank;
      longest = late;
    }
  }
  report_.awaited_rank = static_cast<float>(awaited);
  report_.awaited_seconds = std::min(static_cast<float>(longest), report_.exposed_seconds);
  before_ = now;
}

double longest_seconds(const std::vector<RankMetrics>& ranks) {
  double longest = 0.0;
  for (const RankMetrics& rank : ranks) longest = std::max(longest, rank.seconds);
  return longest;
}

std::optional<size_t> straggler(const std::vector<RankMetrics>& ranks) {
  constexpr double kLateShare = 0.1;
  const auto latest = std::max_element(ranks.begin(), ranks.end(), [](const RankMetrics& a, const RankMetrics& b) {
    return a.late_seconds < b.late_seconds;
  });
  if (latest == ranks.end()) return std::nullopt;
  // Ranks that wait for each other in turn are all late and all waiting.
  if (latest->late_seconds - latest->exposed_seconds < kLateShare * longest_seconds(ranks)) return std::nullopt;
  return static_cast<size_t>(latest - ranks.begin());
}

}  // namespace ondol
