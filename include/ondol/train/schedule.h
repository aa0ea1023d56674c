// Learning-rate schedules: pure functions of the step.
//
//   const ScheduleConfig schedule{.type = "cosine", .warmup_steps = 100, .min_learning_rate = 3e-5, .steps = 2000};
//   double rate = learning_rate_at(schedule, 3e-4, step);
//
// Steps count from 1: step s of a run uses learning_rate_at(.., s), so that the first step of a warm-up is not lost at
// a rate of 0 and the last step of a decay runs at the minimum. With peak p, minimum m, warm-up w, length T:
//
//   s < w          p s / w                                        (all types; Goyal et al. 2017)
//   constant       p
//   linear         m + (p - m) (1 - x),               x = (s - w) / (T - w)
//   cosine         m + (p - m) (1 + cos(pi x)) / 2; cosine_restarts: x = ((s - w) mod t) / t   (SGDR)
//   wsd            p until T - d, then m + (p - m) f(y), y = (s - (T - d)) / d   (warm-up, stable, decay: Hu et al.
//   2024)
//                  f: linear 1 - y; cosine (1 + cos(pi y)) / 2; sqrt 1 - sqrt(y) (Hägele et al. 2024)
//   polynomial     m + (p - m) (1 - x)^power
//   slanted_triangular   p (1 + q (ratio - 1)) / ratio with c = floor(T cut_fraction), s' = s - 1:
//                  q = s' / c while s' < c, then 1 - (s' - c) / (c (1 / cut_fraction - 1)); it has no w and m
//                  (Howard & Ruder 2018)
//   inverse_sqrt   max(m, p sqrt(t / (s - w + t))),   t = timescale, w by default   (Vaswani et al. 2017)
//
// After T the rate stays at m (constant and inverse_sqrt go on).
#pragma once

#include <cstdint>
#include <string>

namespace ondol {

struct ScheduleConfig {
  std::string type = "constant";  // one of those above
  int64_t warmup_steps = 0;
  double min_learning_rate = 0.0;
  int64_t steps = 0;                   // T
  int64_t decay_steps = 0;             // d, wsd
  std::string decay_shape = "linear";  // f, wsd: linear, cosine, sqrt
  int64_t timescale = 0;               // t: inverse_sqrt; of a cycle, cosine_restarts
  double power = 1.0;                  // polynomial
  double cut_fraction = 0.1;           // slanted_triangular: the share of the steps in which the rate grows
  double ratio = 32.0;                 // slanted_triangular: how much smaller the lowest rate is than the peak
};

/// The rate of step `step`. Throws UsageError on an unknown type or shape.
double learning_rate_at(const ScheduleConfig& schedule, double peak, int64_t step);

}  // namespace ondol
