#include <ondol/train/schedule.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ondol/base/error.h>

namespace ondol {

namespace {

/// Falls from 1 to 0 while x goes from 0 to 1.
double decay_factor(const std::string& shape, double x) {
  if (x >= 1.0) return 0.0;
  if (shape == "linear") return 1.0 - x;
  if (shape == "cosine") return 0.5 * (1.0 + std::cos(std::numbers::pi * x));
  if (shape == "sqrt") return 1.0 - std::sqrt(x);
  throw UsageError(concat("unknown decay shape \"", shape, "\": expected linear, cosine or sqrt"));
}

/// How far `step` is from `begin` to `end`, 1 from the end on.
double progress(int64_t step, int64_t begin, int64_t end) {
  if (step >= end) return 1.0;
  return static_cast<double>(step - begin) / static_cast<double>(end - begin);
}

/// Howard & Ruder 2018, equation 3, whose steps count from 0.
double slanted_triangular(const ScheduleConfig& schedule, double peak, int64_t step) {
  const double cut = std::max(1.0, std::floor(static_cast<double>(schedule.steps) * schedule.cut_fraction));
  const auto t = static_cast<double>(std::min(step, schedule.steps) - 1);
  double p = t / cut;
  if (t >= cut) p = 1.0 - (t - cut) / std::max(cut * (1.0 / schedule.cut_fraction - 1.0), 1.0);
  return peak * (1.0 + std::max(p, 0.0) * (schedule.ratio - 1.0)) / schedule.ratio;
}

}  // namespace

double learning_rate_at(const ScheduleConfig& schedule, double peak, int64_t step) {
  if (schedule.type == "slanted_triangular") return slanted_triangular(schedule, peak, step);
  const double low = schedule.min_learning_rate;
  const int64_t warmup = schedule.warmup_steps;
  if (step < warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  if (schedule.type == "constant") return peak;
  if (schedule.type == "linear" || schedule.type == "cosine") {
    return low + (peak - low) * decay_factor(schedule.type, progress(step, warmup, schedule.steps));
  }
  if (schedule.type == "cosine_restarts") {
    if (step >= schedule.steps) return low;
    const int64_t cycle = std::max<int64_t>(schedule.timescale, 1);
    return low + (peak - low) * decay_factor("cosine", progress((step - warmup) % cycle, 0, cycle));
  }
  if (schedule.type == "wsd") {
    const int64_t decay_start = schedule.steps - schedule.decay_steps;
    if (step <= decay_start) return peak;
    return low + (peak - low) * decay_factor(schedule.decay_shape, progress(step, decay_start, schedule.steps));
  }
  if (schedule.type == "polynomial") {
    const double left = decay_factor("linear", progress(step, warmup, schedule.steps));
    return low + (peak - low) * std::pow(left, schedule.power);
  }
  if (schedule.type == "inverse_sqrt") {
    const double scale = static_cast<double>(std::max<int64_t>(schedule.timescale, 1));
    return std::max(low, peak * std::sqrt(scale / (static_cast<double>(step - warmup) + scale)));
  }
  throw UsageError(concat("unknown schedule \"", schedule.type,
                          "\": expected constant, linear, cosine, cosine_restarts, wsd, inverse_sqrt, ",
                          "polynomial or slanted_triangular"));
}

}  // namespace ondol
