#include <ondol/metrics/classification.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include <ondol/base/error.h>

namespace ondol::metrics {

namespace {

template <class T>
void check_lengths(std::span<const T> a, std::span<const T> b) {
  ONDOL_CHECK(a.size() == b.size() && !a.empty(), "a metric needs as many predictions as references and at least one, ",
              "got ", a.size(), " and ", b.size());
}

struct Counts {
  int64_t right = 0, predicted = 0, expected = 0;

  double f1() const {
    const int64_t both = predicted + expected;  // 2 TP + FP + FN
    return both == 0 ? 0.0 : 2.0 * static_cast<double>(right) / static_cast<double>(both);
  }
};

using CountsOfClasses = std::map<int32_t, Counts>;

CountsOfClasses count_classes(std::span<const int32_t> predicted, std::span<const int32_t> expected) {
  CountsOfClasses counts;
  for (size_t i = 0; i < predicted.size(); ++i) {
    ++counts[predicted[i]].predicted;
    ++counts[expected[i]].expected;
    if (predicted[i] == expected[i]) ++counts[predicted[i]].right;
  }
  return counts;
}

std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double mean = static_cast<double>(begin + end + 1) / 2.0;  // of begin + 1 … end
    for (size_t i = begin; i < end; ++i) result[order[i]] = mean;
    begin = end;
  }
  return result;
}

}  // namespace

double accuracy(std::span<const int32_t> predicted, std::span<const int32_t> expected) {
  check_lengths(predicted, expected);
  int64_t right = 0;
  for (size_t i = 0; i < predicted.size(); ++i) right += predicted[i] == expected[i] ? 1 : 0;
  return static_cast<double>(right) / static_cast<double>(predicted.size());
}

double f1(std::span<const int32_t> predicted, std::span<const int32_t> expected, const F1Options& options) {
  check_lengths(predicted, expected);
  if (options.average == Average::micro) return accuracy(predicted, expected);
  CountsOfClasses counts = count_classes(predicted, expected);
  if (options.average == Average::binary) return counts[options.positive].f1();
  double sum = 0.0;
  for (const auto& [label, count] : counts) sum += count.f1();
  return sum / static_cast<double>(counts.size());
}

double matthews_correlation(std::span<const int32_t> predicted, std::span<const int32_t> expected) {
  check_lengths(predicted, expected);
  const auto samples = static_cast<double>(predicted.size());
  double right = 0.0, products = 0.0, predicted_squares = 0.0, expected_squares = 0.0;
  for (const auto& [label, count] : count_classes(predicted, expected)) {
    const auto p = static_cast<double>(count.predicted), e = static_cast<double>(count.expected);
    right += static_cast<double>(count.right);
    products += p * e;
    predicted_squares += p * p;
    expected_squares += e * e;
  }
  const double squared = (samples * samples - predicted_squares) * (samples * samples - expected_squares);
  return squared == 0.0 ? 0.0 : (right * samples - products) / std::sqrt(squared);
}

double multi_label_f1(std::span<const uint8_t> predicted, std::span<const uint8_t> expected, int64_t labels,
                      Average average) {
  check_lengths(predicted, expected);
  ONDOL_CHECK(labels >= 1 && predicted.size() % static_cast<size_t>(labels) == 0 && average != Average::binary,
              "F1 of several labels at once needs rows of ", labels, " labels, and an average of macro or micro");
  std::vector<Counts> counts(static_cast<size_t>(labels));
  Counts all;
  for (size_t i = 0; i < predicted.size(); ++i) {
    for (Counts* count : {&counts[i % counts.size()], &all}) {
      count->predicted += predicted[i] != 0 ? 1 : 0;
      count->expected += expected[i] != 0 ? 1 : 0;
      count->right += predicted[i] != 0 && expected[i] != 0 ? 1 : 0;
    }
  }
  if (average == Average::micro) return all.f1();
  double sum = 0.0;
  for (const Counts& count : counts) sum += count.f1();
  return sum / static_cast<double>(labels);
}

double subset_accuracy(std::span<const uint8_t> predicted, std::span<const uint8_t> expected, int64_t labels) {
  check_lengths(predicted, expected);
  const auto width = static_cast<size_t>(std::max<int64_t>(labels, 1));
  ONDOL_CHECK(labels >= 1 && predicted.size() % width == 0, "accuracy of several labels at once needs rows of ", labels,
              " labels");
  size_t right = 0;
  for (size_t row = 0; row < predicted.size(); row += width) {
    const auto same = [](uint8_t a, uint8_t b) { return (a != 0) == (b != 0); };
    right += std::equal(&predicted[row], &predicted[row] + width, &expected[row], same) ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(predicted.size() / width);
}

double pearson(std::span<const double> x, std::span<const double> y) {
  check_lengths(x, y);
  const auto count = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / count;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / count;
  double xy = 0.0, xx = 0.0, yy = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  if (xx == 0.0 || yy == 0.0) return std::nan("");
  return std::clamp(xy / (std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

double spearman(std::span<const double> x, std::span<const double> y) {
  check_lengths(x, y);
  return pearson(ranks(x), ranks(y));
}

double mean_squared_error(std::span<const double> x, std::span<const double> y) {
  check_lengths(x, y);
  double sum = 0.0;
  for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return sum / static_cast<double>(x.size());
}

double perplexity(double total_loss, int64_t tokens) {
  ONDOL_CHECK(tokens >= 1, "perplexity needs a token or more");
  return std::exp(total_loss / static_cast<double>(tokens));
}

}  // namespace ondol::metrics
