// How often labels are right, and how well values agree.
//
//   using namespace ondol;
//   double share = metrics::accuracy(predicted, expected);                  // class numbers, one for each sample
//   double f1 = metrics::f1(predicted, expected, {.average = metrics::Average::macro});
//   double rho = metrics::spearman(values, scores);
//
// Definitions and corner cases are those of scikit-learn and SciPy. `predicted` and `expected` have the same length, at
// least 1; else Error.
#pragma once

#include <cstdint>
#include <span>

namespace ondol::metrics {

double accuracy(std::span<const int32_t> predicted, std::span<const int32_t> expected);

enum class Average {
  binary,  // of the class `positive` alone
  macro,   // mean over all classes that were predicted or expected
  micro    // over all decisions; with one class a sample the accuracy
};
struct F1Options {
  Average average = Average::binary;
  int32_t positive = 1;
};
/// 2 TP / (2 TP + FP + FN); 0 where that is 0 / 0.
double f1(std::span<const int32_t> predicted, std::span<const int32_t> expected, const F1Options& options = {});

/// Matthews' correlation coefficient, of any number of classes (Gorodkin 2004); 0 when either side has one class only.
double matthews_correlation(std::span<const int32_t> predicted, std::span<const int32_t> expected);

/// Several labels at once: row i of (samples, labels) has 1 where a label holds. micro or macro; binary is an Error.
double multi_label_f1(std::span<const uint8_t> predicted, std::span<const uint8_t> expected, int64_t labels,
                      Average average);
/// The share of samples whose labels are all right.
double subset_accuracy(std::span<const uint8_t> predicted, std::span<const uint8_t> expected, int64_t labels);

/// Pearson's correlation coefficient; not a number when either side is constant.
double pearson(std::span<const double> x, std::span<const double> y);
/// Pearson's of the ranks; equal values share the mean of their ranks.
double spearman(std::span<const double> x, std::span<const double> y);
double mean_squared_error(std::span<const double> x, std::span<const double> y);

/// exp of the mean negative log likelihood of `tokens` tokens (nats).
double perplexity(double total_loss, int64_t tokens);

}  // namespace ondol::metrics
